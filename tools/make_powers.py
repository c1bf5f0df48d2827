#!/usr/bin/env python3
"""Writes src/codec/powers.inc: the 128 leading bits of 10^k for k in -342..324.

Truncated, but rounded up for k in -27..-1: there a product can lie exactly halfway between two numbers, and only the
larger reciprocal shows it.
"""
import sys

LOW, HIGH = -342, 324
print("/* Written by tools/make_powers.py: the 128 leading bits of 10^k for k = %d..%d. */" % (LOW, HIGH))
for k in range(LOW, HIGH + 1):
    if k >= 0:
        value = 10 ** k
        bits = value.bit_length()
        value = value << 128 - bits if bits <= 128 else value >> bits - 128
    else:
        divisor = 10 ** -k
        shift = divisor.bit_length() + 128
        value = (1 << shift) // divisor
        value >>= value.bit_length() - 128
        value += k >= -27
    print("{0x%016xULL, 0x%016xULL}," % (value >> 64, value & (1 << 64) - 1))
