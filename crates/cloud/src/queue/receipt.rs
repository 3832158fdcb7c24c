//! What a consumer shows to delete a message, or to hide it for longer.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{error::QueueError, key::Key};

/// Of which queue, of which message, and of which time that it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) key: Key,
    pub(super) secret: u64,
}

/// How many bytes of a queue's name, hashed, and of the secret are in front of the key.
const QUEUE: usize = 8;
const SECRET: usize = 8;

fn mark(queue: &str) -> [u8; QUEUE] {
    *Sha256::digest(queue).first_chunk().expect("a hash is longer")
}

impl Receipt {
    pub(super) fn encode(&self, queue: &str) -> String {
        URL_SAFE_NO_PAD.encode([&mark(queue)[..], &self.secret.to_be_bytes(), &self.key.0].concat())
    }

    /// # Errors
    /// [`QueueError::Receipt`] if it is none, or one of another queue.
    pub(super) fn decode(text: &str, queue: &str) -> Result<Self, QueueError> {
        let wrong = QueueError::Receipt { wrong: "it is none of this cloud" };
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Err(wrong) };
        let Some((of, rest)) = bytes.split_first_chunk::<QUEUE>() else { return Err(wrong) };
        let Some((secret, key)) = rest.split_first_chunk::<SECRET>() else { return Err(wrong) };
        if *of != mark(queue) {
            return Err(QueueError::Receipt { wrong: "it is one of another queue" });
        }
        if key.len() < 9 {
            return Err(wrong);
        }
        Ok(Self { key: Key(Bytes::copy_from_slice(key)), secret: u64::from_be_bytes(*secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_only_for_its_queue() {
        let receipt = Receipt { key: Key::fifo("group one", 7), secret: 42 };
        let text = receipt.encode("orders");
        assert_eq!(Receipt::decode(&text, "orders").unwrap(), receipt);
        for (text, queue) in [(text.as_str(), "others"), ("", "orders"), ("AAAA", "orders"), ("ä", "orders")]
        {
            assert!(matches!(Receipt::decode(text, queue), Err(QueueError::Receipt { .. })), "{text}");
        }
    }
}
