"""The product's words: threat models, records, statistics, tables, errors. No torch, no numpy."""
