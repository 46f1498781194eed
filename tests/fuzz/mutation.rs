//! Bytes that are no module, and modules with a few bytes changed.

use rand::{RngExt as _, rngs::StdRng};

/// How a core module and a component begin.
const HEADERS: [&[u8]; 3] = [b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0", b"(module"];
/// Numbers in the variable-length code of WASM, and bytes that end or begin something.
const INTERESTING: [&[u8]; 8] = [
    &[0],
    &[0x0b],
    &[0x7f],
    &[0x80],
    &[0xff; 3],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x60, 0x00],
];

/// Random bytes, mostly with the beginning of a module.
pub(crate) fn noise(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = match random.random_range(0..=HEADERS.len()) {
        header if header < HEADERS.len() => HEADERS[header].to_vec(),
        _ => Vec::new(),
    };
    let length = random.random_range(0..2_000);
    bytes.extend((0..length).map(|_| random.random::<u8>()));
    bytes
}

/// A module with one to eight changes.
pub(crate) fn mutated(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let other = |random: &mut StdRng| &corpus[random.random_range(0..corpus.len())];
    let mut bytes = other(random).clone();
    // As often as not the change is so small that the module stays valid.
    for _ in 0..1_u32 << random.random_range(0..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..32)).min(bytes.len());
        match random.random_range(0..8) {
            0 | 1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 | 3 => bytes[at] = bytes[at].wrapping_add(random.random_range(0..3)).wrapping_sub(1),
            4 => {
                let interesting = INTERESTING[random.random_range(0..INTERESTING.len())];
                bytes.splice(at..at + 1, interesting.iter().copied());
            }
            5 => drop(bytes.drain(at..end)),
            6 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = other(random);
                let from = random.random_range(0..other.len());
                let to = (from + end - at).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}
