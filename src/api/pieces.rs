//! [`Pieces`]: the bytes of an answer that are not sent yet. Short texts are copied into pieces of a bounded size. Long
//! documents are shared with the store, so that many answers hold them only once.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{http_server::sending::PIECE, model::Object};

/// A text of this length is a piece of its own. Copying a shorter one is cheaper.
const SHARED_MIN: usize = 16 * 1024;

/// A queue of bytes.
#[derive(Default)]
pub(crate) struct Pieces {
    ready: VecDeque<Bytes>,
    /// The piece that is still growing.
    open: Vec<u8>,
    length: usize,
}

impl Pieces {
    /// Appends a copy.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.open.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Appends bytes without copying them.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.copy(&bytes);
        }
        self.close();
        self.length += bytes.len();
        self.ready.push_back(bytes);
    }

    /// Appends an object as an item of a list.
    pub(crate) fn item(&mut self, object: &Object) {
        let (head, version, rest) = object.item_parts();
        self.share(head);
        self.copy(version.as_bytes());
        self.share(rest);
    }

    /// Appends an object's document.
    pub(crate) fn document(&mut self, object: &Object) {
        let length = object.document_len();
        if length < SHARED_MIN {
            self.make_room(length);
            object.write_document(&mut self.open);
            self.length += length;
            return;
        }
        let (head, version, rest) = object.document_parts();
        self.share(head);
        self.copy(version.as_bytes());
        self.share(rest);
    }

    /// How many bytes are not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The next piece.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.close();
        }
        let piece = self.ready.pop_front()?;
        self.length -= piece.len();
        Some(piece)
    }

    fn make_room(&mut self, length: usize) {
        if self.open.len() + length > PIECE {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.open).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_parts_are_gathered_and_long_ones_are_shared() {
        let long = Bytes::from(vec![b'l'; SHARED_MIN]);
        let mut pieces = Pieces::default();
        pieces.copy(b"ab");
        pieces.share(Bytes::from_static(b"cd"));
        pieces.share(long.clone());
        pieces.copy(b"ef");
        assert_eq!(pieces.len(), SHARED_MIN + 6);
        assert_eq!(pieces.take().unwrap(), "abcd");
        assert_eq!(pieces.take().unwrap().as_ptr(), long.as_ptr());
        assert_eq!(pieces.take().unwrap(), "ef");
        assert_eq!((pieces.take(), pieces.len()), (None, 0));
    }

    #[test]
    fn pieces_are_bounded() {
        let mut pieces = Pieces::default();
        for _ in 0..100 {
            pieces.copy(&[b's'; SHARED_MIN - 1]);
        }
        let taken: Vec<Bytes> = std::iter::from_fn(|| pieces.take()).collect();
        assert!(taken.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(taken.concat().len(), 100 * (SHARED_MIN - 1));
    }
}
