//! Owns byte strings that come from a workload, and their one JSON form. Knows nothing about what they name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A string that need not be UTF-8: a comm, a file name, a cgroup path. It never changes, and clones share it.
///
/// In JSON it is a string when it is valid UTF-8, else `{"b64": "…"}` (standard alphabet, padded). A JSON string is
/// always the literal bytes: nothing in it is unescaped, so that no name can pass for the other form.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Arc<[u8]>);

impl Bytes {
    /// The bytes, as they were recorded.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// True when there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For comparing with known names only: bytes that are not UTF-8 become U+FFFD. Not escaped for any sink.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("b64", &BASE64.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or an object with the one key \"b64\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Bytes, E> {
        Ok(text.into_bytes().into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let Some((key, encoded)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::missing_field("b64"));
        };
        if key != "b64" {
            return Err(de::Error::unknown_field(&key, &["b64"]));
        }
        if let Some(more) = map.next_key::<String>()? {
            return Err(de::Error::unknown_field(&more, &[]));
        }
        let bytes =
            BASE64.decode(&encoded).map_err(|source| de::Error::custom(format!("bad base64: {source}")))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(bytes: &[u8]) -> String {
        serde_json::to_string(&Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn utf8_is_a_string_and_the_rest_is_base64() {
        assert_eq!(json("näme".as_bytes()), "\"näme\"");
        assert_eq!(json(b"\xff\x00"), r#"{"b64":"/wA="}"#);
    }

    #[test]
    fn a_name_that_looks_like_the_other_form_stays_a_name() {
        let hostile = br#"{"b64":"AA=="}"#;
        assert_eq!(serde_json::from_str::<Bytes>(&json(hostile)).unwrap(), Bytes::from(&hostile[..]));
    }

    #[test]
    fn malformed_forms_are_refused() {
        for text in
            ["{}", r#"{"b65":"AA=="}"#, r#"{"b64":"A"}"#, r#"{"b64":"AA==","x":"y"}"#, "[1]", "7", "null"]
        {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn json_gives_the_same_bytes_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let text = serde_json::to_string(&bytes).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        }

        #[test]
        fn strings_mean_their_literal_bytes(text in ".{0,40}") {
            prop_assert_eq!(json(text.as_bytes()), serde_json::to_string(&text).unwrap());
        }
    }
}
