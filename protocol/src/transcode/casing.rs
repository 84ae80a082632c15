//! Names of members: ASP.NET Core writes them in camelCase in JSON and as declared in MessagePack, where readers take
//! the exact name only (signalr-wire §8.6, §9.4).
//!
//! From JSON the first letter becomes upper case; what declaration a name like `id` had (`Id`, `ID`) cannot be seen, so
//! names declared otherwise are listed.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What happens to the names of members inside payloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PropertyNames {
    /// Nothing.
    #[default]
    Keep,
    /// camelCase in JSON, PascalCase in MessagePack.
    CamelToPascal(DeclaredNames),
}

/// Names whose declaration is not what their first letter in upper case gives, such as `ID` or `URLValue`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredNames {
    by_camel: BTreeMap<String, String>,
}

impl<T: Into<String>> FromIterator<T> for DeclaredNames {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let by_camel = names.into_iter().map(Into::into).map(|name| (camel(&name).into_owned(), name)).collect();
        Self { by_camel }
    }
}

impl PropertyNames {
    /// The name in MessagePack of a member that JSON calls `name`.
    pub(super) fn declared<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        let Self::CamelToPascal(declared) = self else { return Cow::Borrowed(name) };
        match declared.by_camel.get(name) {
            Some(declared) => Cow::Borrowed(declared),
            None => pascal(name),
        }
    }

    /// The name in JSON of a member that MessagePack calls `name`.
    pub(super) fn in_json<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self {
            Self::Keep => Cow::Borrowed(name),
            Self::CamelToPascal(_) => camel(name),
        }
    }
}

fn pascal(name: &str) -> Cow<'_, str> {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) if first.is_lowercase() => Cow::Owned(one_upper(first).chain(letters).collect()),
        _ => Cow::Borrowed(name),
    }
}

/// Lowers the capitals at the front, but for the last of several that a small letter follows: as
/// `JsonNamingPolicy.CamelCase` does (`ID` → `id`, `URLValue` → `urlValue`).
fn camel(name: &str) -> Cow<'_, str> {
    if !name.starts_with(char::is_uppercase) {
        return Cow::Borrowed(name);
    }
    let mut letters = name.chars().enumerate().peekable();
    let mut text = String::with_capacity(name.len());
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|&(_, next)| next);
        let word_begins = at > 0 && next.is_some_and(|next| !next.is_uppercase() && next != ' ');
        if !letter.is_uppercase() || word_begins {
            text.push(letter);
            break;
        }
        text.extend(one_lower(letter));
        if at > 0 && next == Some(' ') {
            break;
        }
    }
    text.extend(letters.map(|(_, letter)| letter));
    Cow::Owned(text)
}

/// Upper case if that is one character, as .NET's `char.ToUpperInvariant`; else the letter itself.
fn one_upper(letter: char) -> core::iter::Once<char> {
    let mut upper = letter.to_uppercase();
    let first = upper.next().filter(|_| upper.next().is_none());
    core::iter::once(first.unwrap_or(letter))
}

fn one_lower(letter: char) -> core::iter::Once<char> {
    let mut lower = letter.to_lowercase();
    let first = lower.next().filter(|_| lower.next().is_none());
    core::iter::once(first.unwrap_or(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case_is_that_of_the_reference() {
        for (declared, json) in [
            ("StringProp", "stringProp"),
            ("ID", "id"),
            ("URLValue", "urlValue"),
            ("IOStream", "ioStream"),
            ("lower", "lower"),
            ("_under", "_under"),
            ("Äpfel", "äpfel"),
            ("A", "a"),
            ("AB c", "ab c"),
            ("X1", "x1"),
            ("", ""),
        ] {
            assert_eq!(camel(declared), json);
        }
    }

    #[test]
    fn declared_names_win() {
        let names = PropertyNames::CamelToPascal(["ID", "URLValue"].into_iter().collect());
        for (json, declared) in
            [("id", "ID"), ("urlValue", "URLValue"), ("stringProp", "StringProp"), ("_x", "_x"), ("äpfel", "Äpfel")]
        {
            assert_eq!(names.declared(json), declared);
        }
        assert_eq!(PropertyNames::Keep.declared("id"), "id");
    }
}
