"""Conversions between rating's values and the generated messages, shared by rpc, messaging and clients."""
