"""What pages are made of: formats, lists, forms, assets."""
