//! How one setting is read from TOML, from the environment, and written into the documented default file.
//!
//! Why: a setting has one definition (in [`super::raw`]) and three uses; each use asks the setting's codec. Units are
//! part of the text (`"15 s"`, `"64 KiB"`), so that no reader has to guess them.
//!
//! Invariant: what [`Codec::write`] gives, [`Codec::read`] and [`Codec::parse`] take, with the same value.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};

use super::network::Network;
use crate::secret::Secret;

/// Reads and writes the values of one kind of setting.
pub(crate) trait Codec {
    /// What the setting holds once read.
    type Value;

    /// Reads the value in a TOML file.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error>;

    /// Reads the text of an environment variable; lists are separated by commas.
    fn parse(text: &str) -> Result<Self::Value, String>;

    /// The TOML of a value, `None` where nothing is set.
    fn write(value: &Self::Value) -> Option<String>;
}

/// Deserializes with a codec, where serde wants a seed.
pub(crate) struct Seed<C>(PhantomData<C>);

impl<C> Seed<C> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, C: Codec> serde::de::DeserializeSeed<'de> for Seed<C> {
    type Value = C::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<C::Value, D::Error> {
        C::read(deserializer)
    }
}

/// A key of a table, compared with the names that exist there; the nearest one is suggested.
pub(crate) struct Key(pub(crate) &'static [&'static str]);

impl<'de> serde::de::DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        let text = String::deserialize(deserializer)?;
        known(&text, self.0).map_err(D::Error::custom)
    }
}

/// Finds `text` among `names`, or says what was probably meant.
pub(crate) fn known(text: &str, names: &[&'static str]) -> Result<&'static str, String> {
    if let Some(name) = names.iter().find(|name| **name == text) {
        return Ok(name);
    }
    if super::raw::RESERVED.contains(&text) {
        return Err(format!("`{text}` is not in this version"));
    }
    Err(match nearest(text, names) {
        Some(name) => format!("unknown setting `{text}`: did you mean `{name}`?"),
        None => format!("unknown setting `{text}`: here are `{}`", names.join("`, `")),
    })
}

/// The name that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(&text.to_ascii_lowercase(), name), *name));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0));
    best.filter(|(score, _)| *score >= 0.8).map(|(_, name)| name)
}

/// A codec whose values are one text each in TOML.
macro_rules! text_codec {
    ($(#[$doc:meta])* $name:ident, $value:ty, $parse:expr, $write:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Codec for $name {
            type Value = $value;

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$value, D::Error> {
                match toml::Value::deserialize(deserializer)? {
                    toml::Value::String(text) => Self::parse(&text).map_err(D::Error::custom),
                    other => Err(D::Error::custom(format!("{other} must be written as a text in quotes"))),
                }
            }

            fn parse(text: &str) -> Result<$value, String> {
                $parse(text.trim())
            }

            fn write(value: &$value) -> Option<String> {
                $write(value)
            }
        }
    };
}

/// A codec whose values are lists of texts; a single text counts as a list of one.
macro_rules! list_codec {
    ($(#[$doc:meta])* $name:ident, $item:ty, $parse:expr, $write:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Codec for $name {
            type Value = Vec<$item>;

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<$item>, D::Error> {
                let one = |value: toml::Value| match value {
                    toml::Value::String(text) => $parse(text.trim()).map_err(D::Error::custom),
                    other => Err(D::Error::custom(format!("{other} must be written as a text in quotes"))),
                };
                match toml::Value::deserialize(deserializer)? {
                    toml::Value::Array(items) => items.into_iter().map(one).collect(),
                    value => one(value).map(|item| vec![item]),
                }
            }

            fn parse(text: &str) -> Result<Vec<$item>, String> {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map($parse).collect()
            }

            fn write(value: &Vec<$item>) -> Option<String> {
                Some(format!("[{}]", value.iter().map($write).collect::<Vec<String>>().join(", ")))
            }
        }
    };
}

fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

text_codec!(
    /// A duration with its unit: `"500 ms"`, `"15 s"`, `"2 min"`, `"1 h"`.
    Span,
    Duration,
    parse_duration,
    |value: &Duration| Some(quoted(duration_text(*value)))
);
text_codec!(
    /// A duration, or `"none"` for no bound.
    SpanOrNone,
    Option<Duration>,
    |text: &str| if text == "none" { Ok(None) } else { parse_duration(text).map(Some) },
    |value: &Option<Duration>| Some(quoted(value.map_or("none".to_owned(), duration_text)))
);
text_codec!(
    /// A size with its unit: `"100 B"`, `"64 KiB"`, `"30 MB"`.
    Size,
    usize,
    parse_size,
    |value: &usize| Some(quoted(size_text(*value)))
);
text_codec!(
    /// A text that may be absent.
    Text,
    Option<String>,
    |text: &str| Ok::<_, String>(Some(text.to_owned())),
    |value: &Option<String>| value.as_ref().map(quoted)
);
text_codec!(
    /// A file's path that may be absent; a relative one counts from the configuration file's directory.
    File,
    Option<PathBuf>,
    |text: &str| Ok::<_, String>(Some(PathBuf::from(text))),
    |value: &Option<PathBuf>| value.as_ref().map(|path| quoted(path.display()))
);
text_codec!(
    /// An address to listen on that may be absent.
    AddressOrNone,
    Option<SocketAddr>,
    |text: &str| parse_address(text).map(Some),
    |value: &Option<SocketAddr>| value.map(quoted)
);
text_codec!(
    /// An address to listen on, or `"off"`.
    AddressOrOff,
    Option<SocketAddr>,
    |text: &str| if text == "off" { Ok(None) } else { parse_address(text).map(Some) },
    |value: &Option<SocketAddr>| Some(value.map_or(quoted("off"), quoted))
);
list_codec!(
    /// Texts.
    Texts,
    String,
    |text: &str| Ok::<_, String>(text.to_owned()),
    quoted
);
list_codec!(
    /// Texts that must not be written anywhere.
    Secrets,
    Secret,
    |text: &str| Ok::<_, String>(Secret::new(text)),
    |_: &Secret| quoted("[redacted]")
);
list_codec!(
    /// IP addresses.
    Addresses,
    IpAddr,
    |text: &str| text.parse().map_err(|_| format!("`{text}` is no IP address")),
    quoted
);
list_codec!(
    /// IP networks: `"10.0.0.0/8"`, or a single address.
    Networks,
    Network,
    str::parse,
    quoted
);

/// A whole number that is not negative.
pub(crate) struct Count;

impl Codec for Count {
    type Value = usize;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(number) => {
                usize::try_from(number).map_err(|_| D::Error::custom("must not be negative"))
            }
            other => Err(D::Error::custom(format!("{other} must be a whole number"))),
        }
    }

    fn parse(text: &str) -> Result<usize, String> {
        text.trim().parse().map_err(|_| format!("`{text}` must be a whole number"))
    }

    fn write(value: &usize) -> Option<String> {
        Some(value.to_string())
    }
}

/// `true` or `false`.
pub(crate) struct Flag;

impl Codec for Flag {
    type Value = bool;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Boolean(flag) => Ok(flag),
            other => Err(D::Error::custom(format!("{other} must be true or false"))),
        }
    }

    fn parse(text: &str) -> Result<bool, String> {
        text.trim().parse().map_err(|_| format!("`{text}` must be true or false"))
    }

    fn write(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// A closed list of words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// Each word with its meaning.
    const ALL: &'static [(&'static str, Self)];
}

/// One word of a closed list.
pub(crate) struct Word<W>(PhantomData<W>);

impl<W: Words> Codec for Word<W> {
    type Value = W;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<W, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }

    fn parse(text: &str) -> Result<W, String> {
        let found = W::ALL.iter().find(|(word, _)| *word == text.trim()).map(|(_, value)| *value);
        let words = || W::ALL.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("`{text}` must be one of {}", words()))
    }

    fn write(value: &W) -> Option<String> {
        W::ALL.iter().find(|(_, known)| known == value).map(|(word, _)| quoted(word))
    }
}

/// Several words of a closed list, in order.
pub(crate) struct WordList<W>(PhantomData<W>);

impl<W: Words> Codec for WordList<W> {
    type Value = Vec<W>;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<W>, D::Error> {
        let words = Texts::read(deserializer)?;
        words.iter().map(|word| Word::parse(word)).collect::<Result<_, _>>().map_err(D::Error::custom)
    }

    fn parse(text: &str) -> Result<Vec<W>, String> {
        Texts::parse(text)?.iter().map(|word| Word::parse(word)).collect()
    }

    fn write(value: &Vec<W>) -> Option<String> {
        Some(format!("[{}]", value.iter().filter_map(Word::write).collect::<Vec<_>>().join(", ")))
    }
}

/// A codec for what is a table of its own; the default file writes it elsewhere.
macro_rules! table_codec {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        pub(crate) struct $name<T>(PhantomData<T>);

        impl<T: for<'de> Deserialize<'de>> Codec for $name<T> {
            type Value = $value;

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$value, D::Error> {
                Deserialize::deserialize(deserializer)
            }

            fn parse(_: &str) -> Result<$value, String> {
                Err("a table can be written in a file only".to_owned())
            }

            fn write(_: &$value) -> Option<String> {
                None
            }
        }
    };
}

table_codec!(
    /// One table.
    Table,
    T
);
table_codec!(
    /// A table that may be absent.
    TableOrNone,
    Option<T>
);
table_codec!(
    /// A list of tables.
    Tables,
    Vec<T>
);
table_codec!(
    /// Tables by name.
    Named,
    BTreeMap<String, T>
);

/// Reads `"15 s"`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("`{text}` must be a whole number with a unit: ms, s, min or h (as in \"15 s\")");
    let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    milliseconds.and_then(|unit| number.checked_mul(unit)).map(Duration::from_millis).ok_or_else(wanted)
}

/// Reads `"64 KiB"`.
fn parse_size(text: &str) -> Result<usize, String> {
    let wanted =
        || format!("`{text}` must be a whole number with a unit: B, kB, MB, GB, KiB, MiB or GiB (as in \"64 KiB\")");
    let (number, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let bytes = match unit {
        "B" => Some(1),
        "kB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes: Option<u64> = bytes.and_then(|unit| number.checked_mul(unit));
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(wanted)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` must be an IP address and a port (as in \"127.0.0.1:8080\" or \"[::]:8080\")"))
}

/// Writes a duration in the largest unit that leaves a whole number.
pub(crate) fn duration_text(duration: Duration) -> String {
    largest_unit(duration.as_millis(), &[(3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")], "0 s")
}

/// Writes a size in the largest unit that leaves a whole number.
pub(crate) fn size_text(bytes: usize) -> String {
    let units =
        [(1 << 30, "GiB"), (1 << 20, "MiB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1, "B")];
    largest_unit(bytes as u128, &units, "0 B")
}

fn largest_unit(value: u128, units: &[(u128, &str)], zero: &str) -> String {
    let unit = units.iter().find(|(unit, _)| value != 0 && value.is_multiple_of(*unit));
    unit.map_or_else(|| zero.to_owned(), |(unit, name)| format!("{} {name}", value / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_units() {
        for (text, value) in
            [("15 s", 15_000), ("15s", 15_000), ("500 ms", 500), ("2 min", 120_000), ("1 h", 3_600_000), ("0 s", 0)]
        {
            assert_eq!(Span::parse(text), Ok(Duration::from_millis(value)), "{text}");
        }
        for text in ["15", "s", "", "-1 s", "1.5 s", "15 sec", "99999999999999999999 s", "9999999999999999 h"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
        for (text, value) in [("64 KiB", 65_536), ("30 MB", 30_000_000), ("7 B", 7), ("1GiB", 1 << 30)] {
            assert_eq!(Size::parse(text), Ok(value), "{text}");
        }
        for text in ["64", "64 kb", "64 KB", "-1 B", "99999999999 GiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for value in [0, 1, 240, 1_000, 65_536, 30_000_000, 1 << 40] {
            let text = Size::write(&value).expect("written");
            assert_eq!(Size::parse(text.trim_matches('"')), Ok(value), "{text}");
        }
        for value in [0, 1, 1_500, 90_000, 7_200_000] {
            let text = Span::write(&Duration::from_millis(value)).expect("written");
            assert_eq!(Span::parse(text.trim_matches('"')), Ok(Duration::from_millis(value)), "{text}");
        }
    }

    #[test]
    fn suggests_the_nearest_name() {
        assert_eq!(nearest("adress", &["address", "tls"]), Some("address"));
        assert_eq!(nearest("zzz", &["address", "tls"]), None);
    }
}
