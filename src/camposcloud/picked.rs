//! Which parts of a body are worth keeping while it is parsed?
//!
//! A page of a hundred apps is some 150 KiB, of which a few words for each app are read. The rest, environment variables
//! and invite codes among it, is passed over and never becomes a value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What is kept of a value, by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// Everything.
    Whole,
    /// A page of the list: an object that holds the apps, or the apps alone.
    Page,
    /// A list of apps.
    Apps,
    /// One app.
    App,
    /// What is measured of it.
    Metrics,
    /// Nothing but what kind of value it is.
    Nothing,
}

impl Pick {
    /// What is kept below a key of an object.
    fn below(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Whole, _) => Some(Self::Whole),
            (Self::Page, "applications") => Some(Self::Apps),
            // The vendor's file has it inside each item, too.
            (Self::Page | Self::App, "pagination") => Some(Self::Whole),
            (Self::App, "currentResourceMetrics") => Some(Self::Metrics),
            (Self::App, "_id" | "status" | "name") | (Self::Metrics, "online" | "timestamp") => Some(Self::Nothing),
            (Self::Page | Self::Apps | Self::App | Self::Metrics | Self::Nothing, _) => None,
        }
    }

    /// What is kept of the items of an array.
    fn items(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::Whole),
            Self::Page | Self::Apps => Some(Self::App),
            Self::App | Self::Metrics | Self::Nothing => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Pick {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Reads a key, and keeps it if something below it is wanted.
struct Key(Pick);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<(String, Pick)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<(String, Pick)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.below(key).map(|pick| (key.to_owned(), pick)))
    }
}

impl<'de> Visitor<'de> for Pick {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        match self.items() {
            Some(pick) => {
                while let Some(item) = seq.next_element_seed(pick)? {
                    items.push(item);
                }
            }
            None => while seq.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key_seed(Key(self))? {
            match key {
                Some((key, pick)) => {
                    let value = map.next_value_seed(pick)?;
                    fields.insert(key, value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(pick: Pick, body: &str, kept: &str) {
        let value = pick.deserialize(&mut serde_json::Deserializer::from_str(body)).unwrap();
        assert_eq!(value.to_string(), kept);
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        case(Pick::Whole, r#"{"a":[1,-2,0.5,null,true,"x",{"b":{}}]}"#, r#"{"a":[1,-2,0.5,null,true,"x",{"b":{}}]}"#);
        case(
            Pick::Page,
            r#"{"applications":[{"_id":"a","env":{"KEY":"hush"},"currentResourceMetrics":{"online":true,"cpu":1}},[1],"x"],
                "totalUsedRAM":1,"pagination":{"totalItems":3}}"#,
            r#"{"applications":[{"_id":"a","currentResourceMetrics":{"online":true}},[],"x"],"pagination":{"totalItems":3}}"#,
        );
        case(Pick::Page, r#"[{"_id":{"x":1},"teamId":{"invites":[{"code":"hush"}]}}]"#, r#"[{"_id":{}}]"#);
        case(
            Pick::App,
            r#"{"currentResourceMetrics":[1],"status":"a","status":"b"}"#,
            r#"{"currentResourceMetrics":[],"status":"b"}"#,
        );
    }
}
