"""The stages: what each reads, computes and writes."""
