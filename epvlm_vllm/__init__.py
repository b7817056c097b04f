"""Sparse Qwen-VL models for vLLM: each request says which visual tokens are computed."""
