//! The few pieces of the protobuf wire format that samples need, on top of prost's own varints and keys.
//!
//! Samples are written, not built: three quarters of one are its labels, which all samples of a label set share as bytes
//! that were encoded once.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A field that holds a message, a string or bytes.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    delimited(out, tag, value.len());
    out.extend_from_slice(value);
}

/// The key and length of a field whose `len` bytes follow.
pub(super) fn delimited(out: &mut Vec<u8>, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    length(out, len);
}

/// A field that is a varint; zero is omitted, as in proto3.
pub(super) fn varint(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        present_varint(out, tag, value);
    }
}

/// A field that is a varint, zero or not: proto2 tells zero from nothing.
pub(super) fn present_varint(out: &mut Vec<u8>, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// The length of what follows, in front of it.
pub(super) fn length(out: &mut Vec<u8>, len: usize) {
    encode_varint(u64_of(len), out);
}

/// A field of eight bytes, in whatever order they are meant to be read: a `fixed64`, `sfixed64` or `double`.
pub(super) fn fixed(out: &mut Vec<u8>, tag: u32, value: [u8; 8]) {
    encode_key(tag, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value);
}

/// A packed field of eight bytes each.
pub(super) fn packed(out: &mut Vec<u8>, tag: u32, values: impl ExactSizeIterator<Item = [u8; 8]>) {
    delimited(out, tag, values.len() * 8);
    values.for_each(|value| out.extend_from_slice(&value));
}

/// How long a field of `len` bytes is with its key (of one byte, as for every tag below 16) and length.
pub(super) fn delimited_len(len: usize) -> usize {
    1 + encoded_len_varint(u64_of(len)) + len
}

fn u64_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
