"""bake(): edits as weights of a plain Hugging Face checkpoint that needs no code of neva_tl."""
