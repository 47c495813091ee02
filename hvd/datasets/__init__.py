"""Readers, label maps, splits, augmentation and the prepared-data schema."""
