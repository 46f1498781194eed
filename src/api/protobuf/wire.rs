//! The wire format of protobuf: a message is a sequence of numbered fields.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message ends early or is malformed")]
pub(super) struct Malformed;

/// One value on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    /// A varint.
    Number(u64),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// A number of 64 bits that may have a fraction.
    Double(f64),
    /// A number of 32 bits, of which Kubernetes has none.
    Fixed,
}

/// The fields of a message. Ends after the first error.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

const CONTINUES: u8 = 0x80;
const VARINT_BITS_MAX: u32 = 64;

/// Reads a varint off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0_u64;
    for shift in (0..VARINT_BITS_MAX).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & !CONTINUES) << shift;
        if byte & CONTINUES == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Signed numbers are sent in two's complement.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_range| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>), Malformed> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        1 => {
            let (eight, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
            *bytes = rest;
            Wire::Double(f64::from_le_bytes(*eight))
        }
        2 => {
            let length = varint(bytes)?;
            Wire::Bytes(take(bytes, length)?)
        }
        5 => take(bytes, 4).map(|_four| Wire::Fixed)?,
        _ => return Err(Malformed),
    };
    Ok((tag >> 3, wire))
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let next = field(&mut self.0);
        if next.is_err() {
            self.0 = &[];
        }
        Some(next)
    }
}
