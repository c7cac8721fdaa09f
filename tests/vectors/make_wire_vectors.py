#!/usr/bin/env python3
"""Makes tests/unit/wire_vectors.h: sealed SSH packets, for tests/unit/test_aead.c and test_wire.c.

    tests/vectors/make_wire_vectors.py > tests/unit/wire_vectors.h      (Debian: python3-cryptography)

Nothing of leat is used. AES-GCM is the cryptography package's AESGCM; chacha20-poly1305@openssh.com is put together here
from that package's bare ChaCha20 and Poly1305, by the letter of OpenSSH's PROTOCOL.chacha20poly1305. Before anything is
printed, ChaCha20 and Poly1305 are compared with plain-Python versions written from RFC 8439 below, so that a wrong use
of the package is noticed too. The output is the same at every run."""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

MASK = 0xFFFFFFFF
# packet_length of the packets of one cipher; all are multiples of 16, so that every cipher takes them, and several lie
# on either side of what vectorised code does at once (64, 128, 256, 512 bytes).
SIZES = [16, 16, 32, 48, 64, 80, 112, 128, 144, 256, 272, 528]


def stream(label, size):
    """Deterministic bytes that look random."""
    out = b""
    while len(out) < size:
        out += hashlib.sha256(f"leat wire vector {label} {len(out)}".encode()).digest()
    return out[:size]


def plain_packet(cipher, number, packet_length):
    """length ‖ padding_length ‖ payload (type 2, IGNORE) ‖ padding"""
    padding = 4 + number
    payload = b"\x02" + stream(f"{cipher} payload {number}", packet_length - 2 - padding)
    return struct.pack(">IB", packet_length, padding) + payload + stream(f"{cipher} padding {number}", padding)


def chacha20(key, counter, seq, data):
    nonce = struct.pack("<Q", counter) + struct.pack(">Q", seq)
    return Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(data)


def chacha_seal(key, seq, packet):
    payload_key, length_key = key[:32], key[32:]
    sealed = chacha20(length_key, 0, seq, packet[:4]) + chacha20(payload_key, 1, seq, packet[4:])
    mac = Poly1305(chacha20(payload_key, 0, seq, bytes(32)))
    mac.update(sealed)
    return sealed + mac.finalize()


def gcm_seal(key, iv, number, packet):
    counter = (int.from_bytes(iv[4:], "big") + number) % 2**64
    nonce = iv[:4] + counter.to_bytes(8, "big")
    return packet[:4] + AESGCM(key).encrypt(nonce, packet[4:], packet[:4])


def chacha20_plain_python(key, counter, seq, data):
    def quarter(s, a, b, c, d):
        for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & MASK
            s[z] ^= s[x]
            s[z] = ((s[z] << bits) | (s[z] >> (32 - bits))) & MASK

    out = b""
    for block in range(0, len(data), 64):
        position = counter + block // 64
        start = list(struct.unpack("<4I", b"expand 32-byte k") + struct.unpack("<8I", key))
        start += [position & MASK, position >> 32] + list(struct.unpack("<2I", struct.pack(">Q", seq)))
        state = start[:]
        for _ in range(10):
            for column in range(4):
                quarter(state, column, 4 + column, 8 + column, 12 + column)
            for i in range(4):
                quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        key_stream = struct.pack("<16I", *((a + b) & MASK for a, b in zip(state, start)))
        out += bytes(a ^ b for a, b in zip(data[block : block + 64], key_stream))
    return out


def poly1305_plain_python(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for block in range(0, len(data), 16):
        total = (total + int.from_bytes(data[block : block + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def chacha_check(key, seq, packet, sealed):
    payload_key, length_key = key[:32], key[32:]
    body = chacha20_plain_python(length_key, 0, seq, packet[:4]) + chacha20_plain_python(payload_key, 1, seq, packet[4:])
    tag = poly1305_plain_python(chacha20_plain_python(payload_key, 0, seq, bytes(32)), body)
    assert sealed == body + tag, f"chacha20-poly1305 differs at sequence number {seq}"


def c_string(data):
    """Hex digits in lines that fit."""
    text = data.hex()
    return "\n".join(f'     "{text[i:i + 108]}"' for i in range(0, len(text), 108))


def packets(kind, name, key, iv, first_seq):
    for number, packet_length in enumerate(SIZES):
        seq = (first_seq + number) & MASK
        packet = plain_packet(name, number, packet_length)
        if kind == "AEAD_CHACHA20_POLY1305":
            sealed = chacha_seal(key, seq, packet)
            chacha_check(key, seq, packet, sealed)
        else:
            sealed = gcm_seal(key, iv, number, packet)
        print(f"    {{{seq}u,\n{c_string(packet)},\n{c_string(sealed)}}},")


def main():
    print(
        """#pragma once
/* Made by tests/vectors/make_wire_vectors.py, which tells how; not to be edited. SSH packets in hex, sealed with
 * Python's cryptography package. The packets of one cipher are consecutive: the GCM invocation counter wraps after the
 * fourth, the sequence number after the fourth too. */
#include "ssh/aead.h"

#define WIRE_VECTOR_PACKETS %du
/* clang-format off */
struct wire_vector_packet { uint32_t seq; const char *plain, *sealed; };
static const struct wire_vector {
    enum aead_kind kind;
    const char *key, *iv;
    struct wire_vector_packet packets[WIRE_VECTOR_PACKETS];
} wire_vectors[] = {"""
        % len(SIZES)
    )
    first_seq = 2**32 - 4
    for kind, key_bytes in (("AEAD_AES128_GCM", 16), ("AEAD_AES256_GCM", 32), ("AEAD_CHACHA20_POLY1305", 64)):
        key = stream(f"{kind} key", key_bytes)
        iv = stream(f"{kind} iv", 4) + (2**64 - 4).to_bytes(8, "big")
        print(f'{{{kind},\n "{key.hex()}",\n "{iv.hex()}", {{')
        packets(kind, kind, key, iv, first_seq)
        print("}},")
    print("};\n/* clang-format on */")


if __name__ == "__main__":
    main()
