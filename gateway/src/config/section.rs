//! One definition of a settings table: its type, its defaults, its reader, its overrides and its documentation.
//!
//! Why a macro: the documented default file is generated from the same doc comments and defaults that the program
//! uses, so that neither can be changed alone. serde's derive cannot hand those out.
//!
//! Invariant: every setting has a doc comment and is read by exactly one codec.

/// One setting as the documented default file shows it.
pub(crate) struct Documented {
    /// Its name.
    pub(crate) name: &'static str,
    /// The lines of its doc comment.
    pub(crate) doc: &'static [&'static str],
    /// Its value as TOML, `None` where nothing is set.
    pub(crate) value: Option<String>,
    /// What a value would look like, where nothing is set.
    pub(crate) example: Option<&'static str>,
}

/// A table of settings.
pub(crate) trait Section {
    /// The names of its settings.
    const NAMES: &'static [&'static str];
    /// The lines of its doc comment.
    const DOC: &'static [&'static str];

    /// Sets `name` from an environment variable's text; `None` if there is no such setting.
    fn set(&mut self, name: &str, text: &str) -> Option<Result<(), String>>;

    /// Its settings with the values they have now.
    fn settings(&self) -> Vec<Documented>;
}

/// Defines a [`Section`]: `field: Type as Codec = default => "example";`, the example where the default is nothing.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $field_doc:literal])* $field:ident: $type:ty as $codec:ty = $default:expr $(=> $example:literal)?; )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::section::Section for $name {
            const NAMES: &'static [&'static str] = &[$( stringify!($field) ),*];
            const DOC: &'static [&'static str] = &[$( $doc ),*];

            fn set(&mut self, name: &str, text: &str) -> Option<Result<(), String>> {
                match name {
                    $( stringify!($field) => {
                        Some(<$codec as $crate::config::codec::Codec>::parse(text).map(|value| self.$field = value))
                    } )*
                    _ => None,
                }
            }

            fn settings(&self) -> Vec<$crate::config::section::Documented> {
                vec![$( $crate::config::section::Documented {
                    name: stringify!($field),
                    doc: &[$( $field_doc ),*],
                    value: <$codec as $crate::config::codec::Codec>::write(&self.$field),
                    example: section!(@example $($example)?),
                } ),*]
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;

                    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        out.write_str("a table")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        use $crate::config::section::Section as _;
                        let mut section = $name::default();
                        while let Some(key) = map.next_key_seed($crate::config::codec::Key($name::NAMES))? {
                            match key {
                                $( stringify!($field) => {
                                    section.$field = map.next_value_seed($crate::config::codec::Seed::<$codec>::new())?;
                                } )*
                                _ => {}
                            }
                        }
                        Ok(section)
                    }
                }

                deserializer.deserialize_map(Visitor)
            }
        }
    };
    (@example) => { None };
    (@example $example:literal) => { Some($example) };
}

pub(crate) use section;
