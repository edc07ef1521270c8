"""Prediction: plan it without any work, then tile by tile through the network, chunk by chunk to the store."""
