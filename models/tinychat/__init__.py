"""How tiny-chat is made: its tasks, tokenizer, network, training and grading.

It knows nothing of serving. `train_tiny_chat.py` and `evaluate.py` beside this folder are its entry
points.
"""
