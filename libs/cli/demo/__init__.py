"""The main job from end to end: a month of LLM usage becomes paid invoices."""
