"""From activity to an answer: patch grid, token selection, sparse Qwen-VL, engine."""
