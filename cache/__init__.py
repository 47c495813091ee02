"""The artifact store: standard library only. Start at `cache.store`."""
