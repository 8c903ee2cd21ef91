"""Pretraining: many pairs become one model; one readable loop for each way to train."""
