//! A parameter as [`Records`](super::param::Records) keep it, in twelve bytes: a large host has millions.

use super::param::index;

/// A parameter.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
pub(super) struct Stored {
    /// The number of the key, and below it the tag.
    key_and_tag: u32,
    bits: u64,
}

/// What the bits are, by its position in [`Tag::ALL`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Tag {
    Int,
    UInt,
    LLong,
    ULLong,
    Double,
    Boolean,
    String,
    Unknown,
}

impl Tag {
    const BITS: u32 = 3;
    const ALL: [Self; 1 << Self::BITS] =
        [Self::Int, Self::UInt, Self::LLong, Self::ULLong, Self::Double, Self::Boolean, Self::String, Self::Unknown];

    fn position(self) -> u32 {
        match self {
            Self::Int => 0,
            Self::UInt => 1,
            Self::LLong => 2,
            Self::ULLong => 3,
            Self::Double => 4,
            Self::Boolean => 5,
            Self::String => 6,
            Self::Unknown => 7,
        }
    }
}

impl Stored {
    /// Keys of a reply are far fewer than 2^29.
    pub(super) fn new(key: u32, tag: Tag, bits: u64) -> Self {
        Self { key_and_tag: key << Tag::BITS | tag.position(), bits }
    }

    pub(super) fn key(self) -> u32 {
        self.key_and_tag >> Tag::BITS
    }

    pub(super) fn bits(self) -> u64 {
        self.bits
    }

    pub(super) fn tag(self) -> Tag {
        Tag::ALL[index(self.key_and_tag) % Tag::ALL.len()]
    }
}
