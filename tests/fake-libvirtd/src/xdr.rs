//! The part of XDR (RFC 4506) that libvirt's remote protocol uses: a writer that appends to a buffer and a reader over one.

use uuid::Uuid;

use crate::params::Value;

/// A buffer that grows by XDR values.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has been written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What has been written, to be patched in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Appends a signed 32-bit number; enumerations are written this way too.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an unsigned 32-bit number.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a signed hyper.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an unsigned hyper.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a double.
    pub fn f64(&mut self, value: f64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a number of elements.
    pub fn count(&mut self, count: usize) -> &mut Self {
        // Nothing in this daemon holds 2^32 elements; a wrong count would show as a frame that cannot be decoded.
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Appends bytes that are XDR already.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a string.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.opaque(text.as_bytes())
    }

    /// Appends the bytes of a string, which need not be UTF-8.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a string that may be missing.
    pub fn optional_string(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.u32(1).string(text),
            None => self.u32(0),
        }
    }

    /// Appends what libvirt calls a `remote_nonnull_domain`: name, UUID, and id (-1 for `None`).
    pub fn domain(&mut self, name: &str, uuid: Uuid, id: Option<u32>) -> &mut Self {
        // To the client an id is unsigned, on the wire it is not.
        let id = id.map_or(-1, u32::cast_signed);
        self.string(name).raw(uuid.as_bytes()).i32(id)
    }

    /// Appends one typed parameter.
    pub fn param(&mut self, key: &str, value: &Value) -> &mut Self {
        self.string(key).i32(value.type_tag());
        match value {
            Value::Int(value) => self.i32(*value),
            Value::UInt(value) => self.u32(*value),
            Value::LLong(value) => self.i64(*value),
            Value::ULLong(value) => self.u64(*value),
            Value::Double(value) => self.f64(*value),
            Value::Boolean(value) => self.i32(i32::from(*value)),
            Value::String(value) => self.string(value),
            Value::Unknown(_) => self,
        }
    }

    /// Appends a counted list of typed parameters.
    pub fn params(&mut self, params: &[(String, Value)]) -> &mut Self {
        self.count(params.len());
        for (key, value) in params {
            self.param(key, value);
        }
        self
    }
}

/// A payload ended before the value that was to be read, or holds a value that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload ends early or is not what the procedure takes")]
pub struct DecodeError;

/// Reads XDR values from the front of a payload.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A domain as a call names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRef {
    /// The name the client knows.
    pub name: String,
    /// The UUID, by which libvirt looks it up.
    pub uuid: Uuid,
    /// The id the client knows, -1 for none.
    pub id: i32,
}

impl<'a> Reader<'a> {
    /// A reader over a payload.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Takes a signed 32-bit number.
    ///
    /// # Errors
    ///
    /// When the payload is too short, as for every other method.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.take().map(i32::from_be_bytes)
    }

    /// Takes an unsigned 32-bit number.
    ///
    /// # Errors
    ///
    /// When the payload is too short.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    /// Takes a UUID.
    ///
    /// # Errors
    ///
    /// When the payload is too short.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.take().map(Uuid::from_bytes)
    }

    /// Takes a string.
    ///
    /// # Errors
    ///
    /// When the payload is too short or the string is not UTF-8.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        let len = usize::try_from(self.u32()?).map_err(|_| DecodeError)?;
        let padded = len.checked_next_multiple_of(4).ok_or(DecodeError)?;
        let (head, rest) = self.rest.split_at_checked(padded).ok_or(DecodeError)?;
        self.rest = rest;
        String::from_utf8(head[..len].to_vec()).map_err(|_| DecodeError)
    }

    /// Takes a value that may be missing.
    ///
    /// # Errors
    ///
    /// When the payload is too short.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.u32()? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// Takes a domain.
    ///
    /// # Errors
    ///
    /// When the payload is too short or the name is not UTF-8.
    pub fn domain(&mut self) -> Result<DomainRef, DecodeError> {
        Ok(DomainRef { name: self.string()?, uuid: self.uuid()?, id: self.i32()? })
    }

    /// Takes a counted list of domains.
    ///
    /// # Errors
    ///
    /// When the payload is too short or a name is not UTF-8.
    pub fn domains(&mut self) -> Result<Vec<DomainRef>, DecodeError> {
        (0..self.u32()?).map(|_| self.domain()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{DecodeError, Reader, Writer};
    use crate::params::Value;
    use uuid::Uuid;

    #[test]
    fn strings_are_padded_to_four_bytes() {
        let mut out = Writer::new();
        out.string("abcde").u32(7);
        assert_eq!(out.into_bytes(), b"\0\0\0\x05abcde\0\0\0\0\0\0\x07");
    }

    #[test]
    fn what_is_written_is_read() {
        let uuid = Uuid::from_u128(7);
        let mut out = Writer::new();
        out.domain("vm", uuid, None).optional_string(None).i32(-3);
        let bytes = out.into_bytes();
        let mut reader = Reader::new(&bytes);
        let domain = reader.domain().unwrap();
        assert_eq!((domain.name.as_str(), domain.uuid, domain.id), ("vm", uuid, -1));
        assert_eq!(reader.optional(Reader::string).unwrap(), None);
        assert_eq!(reader.i32().unwrap(), -3);
        assert_eq!(reader.u32(), Err(DecodeError));
    }

    #[test]
    fn a_length_beyond_the_payload_is_an_error() {
        assert_eq!(Reader::new(&[0xff; 8]).string(), Err(DecodeError));
        assert_eq!(Reader::new(&[0xff; 8]).domains(), Err(DecodeError));
    }

    #[test]
    fn typed_parameters_have_key_tag_and_value() {
        let mut out = Writer::new();
        out.param("key", &Value::Boolean(true)).param("n", &Value::Unknown(9));
        assert_eq!(out.into_bytes(), b"\0\0\0\x03key\0\0\0\0\x06\0\0\0\x01\0\0\0\x01n\0\0\0\0\0\0\x09");
    }
}
