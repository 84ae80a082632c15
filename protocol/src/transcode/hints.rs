//! What a route tells about values whose kind bytes alone do not: the same .NET type is written differently by the two
//! protocols of ASP.NET Core (signalr-wire §8.6, §9.4).
//!
//! A hint stands at a path of a target: `arguments.0`, `result`, `item`, `streams.0` (items of the caller's first
//! upload stream), and from there on names of members, numbers of elements, or `*` for each of them.
//!
//! Invariant: without a hint a value goes by its bytes alone.

use std::collections::BTreeMap;

use crate::limits::NESTING_MAX;

/// Most steps of a path: no payload is nested deeper.
const PATH_STEPS_MAX: usize = NESTING_MAX;

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Base64 text ⇄ binary data.
    Bytes,
    /// ISO 8601 text ⇄ timestamp.
    Date,
    /// ISO 8601 text with an offset ⇄ array of a timestamp and minutes (`DateTimeOffset`).
    DateOffset,
    /// `2017-04-11` ⇄ number of the day (`DateOnly`).
    Day,
    /// `01:02:03.0040000` ⇄ ticks of 100 ns (`TimeOnly`).
    Time,
    /// `1.02:03:04.0050000` ⇄ ticks of 100 ns (`TimeSpan`).
    TimeSpan,
    /// Number ⇄ text of the same digits.
    Decimal,
    /// Any number, or `"NaN"`, `"Infinity"`, `"-Infinity"` ⇄ 64-bit float.
    Float,
    /// Text of one UTF-16 unit ⇄ its number.
    Char,
    /// Number ⇄ name, in the order of declaration.
    Enum(Vec<(String, i64)>),
    /// Sum of numbers ⇄ names with `, ` in between.
    Flags(Vec<(String, i64)>),
    /// Object with these members, in this order ⇄ array; an empty name is an element that is always nil.
    Tuple(Vec<String>),
    /// Object whose keys are data, not names of members: their letter case is left alone.
    Dictionary,
    /// Object whose keys are numbers ⇄ map with integer keys.
    IntegerKeys,
}

/// Why the text of a hint or of its path is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The hint is unknown.
    #[error(
        "'{hint}' is no hint; there are bytes, date, date-offset, day, time, timespan, decimal, float, char, \
         enum(Name=0, …), flags(Name=1, …), tuple, tuple(name, …), pair, dictionary, integer-keys"
    )]
    Hint {
        /// Its text.
        hint: String,
    },
    /// The path does not begin as one must.
    #[error("'{path}' is no path; it begins with arguments.N, streams.N, result or item")]
    Path {
        /// Its text.
        path: String,
    },
    /// Two hints stand at one path.
    #[error("the path '{path}' has two hints")]
    Twice {
        /// Its text.
        path: String,
    },
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Any,
    Index(u32),
    Name(String),
}

impl From<&str> for Step {
    fn from(word: &str) -> Self {
        match word {
            "*" => Self::Any,
            other => other.parse().map_or_else(|_| Self::Name(other.to_owned()), Self::Index),
        }
    }
}

/// A place in a payload: its own hint and those below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) hint: Option<Hint>,
    below: Vec<(Step, Place)>,
}

/// The hints of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TargetHints {
    pub(super) arguments: Place,
    pub(super) streams: Place,
    pub(super) result: Place,
    pub(super) item: Place,
}

/// The hints of a route, by target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Places of `targets`, by name in lower case: hubs look methods up in any letter case.
    names: BTreeMap<String, usize>,
    targets: Vec<TargetHints>,
}

impl Hints {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Adds a hint in its text form at the text form of a path.
    ///
    /// # Errors
    /// When either is none, or the place has a hint already.
    pub fn add(&mut self, target: &str, path: &str, hint: &str) -> Result<(), ParseError> {
        let hint: Hint = hint.parse()?;
        let targets = &mut self.targets;
        let index = *self.names.entry(target.to_lowercase()).or_insert_with(|| {
            targets.push(TargetHints::default());
            targets.len() - 1
        });
        let wrong = || ParseError::Path { path: path.to_owned() };
        let target = targets.get_mut(index).ok_or_else(wrong)?;
        let mut words = path.split('.');
        let (place, is_list) = match words.next() {
            Some("arguments") => (&mut target.arguments, true),
            Some("streams") => (&mut target.streams, true),
            Some("result") => (&mut target.result, false),
            Some("item") => (&mut target.item, false),
            _ => return Err(wrong()),
        };
        let steps: Vec<Step> = words.map(Step::from).collect();
        let numbered = matches!(steps.first(), Some(Step::Any | Step::Index(_)));
        if steps.len() > PATH_STEPS_MAX || steps.contains(&Step::Name(String::new())) || (is_list && !numbered) {
            return Err(wrong());
        }
        if place.put(&steps, hint) { Ok(()) } else { Err(ParseError::Twice { path: path.to_owned() }) }
    }

    pub(super) fn index(&self, target: &str) -> Option<usize> {
        if self.targets.is_empty() {
            return None;
        }
        self.names.get(&target.to_lowercase()).copied()
    }

    pub(super) fn target(&self, index: Option<usize>) -> Option<&TargetHints> {
        self.targets.get(index?)
    }
}

impl Place {
    /// Puts `hint` behind the steps; false when one stands there.
    fn put(&mut self, steps: &[Step], hint: Hint) -> bool {
        let Some((step, rest)) = steps.split_first() else { return self.hint.replace(hint).is_none() };
        if let Some((_, place)) = self.below.iter_mut().find(|(known, _)| known == step) {
            return place.put(rest, hint);
        }
        let mut place = Self::default();
        place.put(rest, hint);
        self.below.push((step.clone(), place));
        true
    }

    pub(super) fn element(&self, index: u32) -> Option<&Self> {
        self.find(|step| matches!(step, Step::Index(known) if *known == index))
    }

    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        self.find(|step| match step {
            Step::Name(known) => known.eq_ignore_ascii_case(name),
            Step::Index(known) => name.parse() == Ok(*known),
            Step::Any => false,
        })
    }

    fn find(&self, is: impl Fn(&Step) -> bool) -> Option<&Self> {
        let exact = self.below.iter().find(|(step, _)| is(step));
        let found = exact.or_else(|| self.below.iter().find(|(step, _)| *step == Step::Any));
        found.map(|(_, place)| place)
    }
}

impl Hint {
    /// Its name in errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Date => "date",
            Self::DateOffset => "date-offset",
            Self::Day => "day",
            Self::Time => "time",
            Self::TimeSpan => "timespan",
            Self::Decimal => "decimal",
            Self::Float => "float",
            Self::Char => "char",
            Self::Enum(_) => "enum",
            Self::Flags(_) => "flags",
            Self::Tuple(_) => "tuple",
            Self::Dictionary => "dictionary",
            Self::IntegerKeys => "integer-keys",
        }
    }
}

impl core::str::FromStr for Hint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::Hint { hint: text.to_owned() };
        let (name, list) = match text.trim().split_once('(') {
            Some((name, list)) => (name.trim(), Some(list.strip_suffix(')').ok_or_else(wrong)?)),
            None => (text.trim(), None),
        };
        match (name, list) {
            ("bytes", None) => Ok(Self::Bytes),
            ("date", None) => Ok(Self::Date),
            ("date-offset", None) => Ok(Self::DateOffset),
            ("day", None) => Ok(Self::Day),
            ("time", None) => Ok(Self::Time),
            ("timespan", None) => Ok(Self::TimeSpan),
            ("decimal", None) => Ok(Self::Decimal),
            ("float", None) => Ok(Self::Float),
            ("char", None) => Ok(Self::Char),
            ("dictionary", None) => Ok(Self::Dictionary),
            ("integer-keys", None) => Ok(Self::IntegerKeys),
            ("pair", None) => Ok(Self::Tuple(vec!["key".to_owned(), "value".to_owned()])),
            ("tuple", None) => Ok(Self::Tuple((1..=7).map(|number| format!("item{number}")).collect())),
            ("tuple", Some(list)) => Ok(Self::Tuple(list.split(',').map(|name| name.trim().to_owned()).collect())),
            ("enum", Some(list)) => names(list).map(Self::Enum).ok_or_else(wrong),
            ("flags", Some(list)) => names(list).map(Self::Flags).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// Reads `Red, Green = 5, Blue`: as in C#, a name without a number has one more than the name before it.
fn names(list: &str) -> Option<Vec<(String, i64)>> {
    let mut next = Some(0i64);
    let mut names = Vec::new();
    for part in list.split(',') {
        let (name, number) = match part.split_once('=') {
            Some((name, number)) => (name.trim(), number.trim().parse().ok()?),
            None => (part.trim(), next?),
        };
        if name.is_empty() {
            return None;
        }
        names.push((name.to_owned(), number));
        next = number.checked_add(1);
    }
    Some(names)
}
