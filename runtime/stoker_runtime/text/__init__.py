"""Text in and out: tokenizer, chat template, incremental detokenisation. Never imports torch."""
