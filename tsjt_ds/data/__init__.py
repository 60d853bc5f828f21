"""From raw bitext to packed rows: reading, cleaning, tokenising, planning, loading."""
