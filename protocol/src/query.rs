//! Query strings as ASP.NET Core reads them (signalr-wire §2): names decoded and without letter case, repeated values
//! joined by a comma, empty ones dropped first.
//!
//! Invariant: what is not touched keeps its bytes and its order (edge-rules B6).

/// The value of a parameter, decoded; `None` when it is absent. Repeated: joined by commas, empty ones dropped.
#[must_use]
pub fn value(query: &str, name: &str) -> Option<String> {
    let mut joined: Option<String> = None;
    for (_, value) in pairs(query).filter(|(pair_name, _)| is_name(pair_name, name)) {
        let value = decode(value);
        match &mut joined {
            None => joined = Some(value),
            Some(_) if value.is_empty() => {}
            Some(before) if before.is_empty() => *before = value,
            Some(before) => {
                before.push(',');
                before.push_str(&value);
            }
        }
    }
    joined
}

/// The query without any parameter of these names; everything else unchanged.
#[must_use]
pub fn without(query: &str, names: &[&str]) -> String {
    let kept: Vec<&str> = segments(query)
        .filter(|segment| {
            let (pair_name, _) = split(segment);
            segment.is_empty() || !names.iter().any(|name| is_name(pair_name, name))
        })
        .collect();
    kept.join("&")
}

/// The query with one parameter more at its end. `value` is written as it is: it must be made of unreserved characters
/// or be encoded already (see [`encode`]).
#[must_use]
pub fn with(query: &str, name: &str, value: &str) -> String {
    let before = strip(query);
    let separator = if before.is_empty() || before.ends_with('&') { "" } else { "&" };
    format!("{before}{separator}{name}={value}")
}

/// Percent-encodes all but unreserved characters.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 0xF] {
                encoded.push(char::from_digit(u32::from(digit), 16).unwrap_or_default().to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// Undoes percent-encoding and `+`; broken escapes stay as they are, invalid UTF-8 is replaced.
#[must_use]
pub fn decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = tail;
                }
                _ => bytes.push(first),
            },
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parameters in order, neither decoded; the leading `?` may be there.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    segments(query).filter(|segment| !segment.is_empty()).map(split)
}

fn segments(query: &str) -> impl Iterator<Item = &str> {
    strip(query).split('&')
}

fn strip(query: &str) -> &str {
    query.strip_prefix('?').unwrap_or(query)
}

fn split(segment: &str) -> (&str, &str) {
    segment.split_once('=').unwrap_or((segment, ""))
}

fn is_name(encoded: &str, name: &str) -> bool {
    decode(encoded).eq_ignore_ascii_case(name)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_joined_as_the_reference_does() {
        assert_eq!(value("?a=1&ID=x", "id").as_deref(), Some("x"));
        assert_eq!(value("id=&id=T", "id").as_deref(), Some("T"));
        assert_eq!(value("id=T&id=", "id").as_deref(), Some("T"));
        assert_eq!(value("id=T&i%64=U", "id").as_deref(), Some("T,U"));
        assert_eq!(value("id=a%2Bb+c%zz%4", "id").as_deref(), Some("a+b c%zz%4"));
        assert_eq!(value("id", "id").as_deref(), Some(""));
        assert_eq!(value("identity=1", "id"), None);
        assert_eq!(value("", "id"), None);
    }

    #[test]
    fn removing_keeps_the_rest_byte_for_byte() {
        assert_eq!(without("?a=%20+&ID=x&&b=1&Id=y&c", &["id", "negotiateVersion"]), "a=%20+&&b=1&c");
        assert_eq!(with("a=1", "id", "T"), "a=1&id=T");
        assert_eq!(with("?", "id", "T"), "id=T");
        assert_eq!(with("a&", "id", "T"), "a&id=T");
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let text = "aä +%&=\u{1F600}~";
        assert_eq!(decode(&encode(text)), text);
        assert_eq!(encode("a b/ü"), "a%20b%2F%C3%BC");
    }
}
