//! Dates, times and spans as ASP.NET Core writes them: ISO 8601 text in JSON, numbers in MessagePack (signalr-wire §8.6,
//! §9.4).
//!
//! The calendar is the proleptic Gregorian one from year 1 to 9999, as in .NET; what lies outside is refused.

use core::fmt::Write as _;

/// Ticks of 100 ns in a second.
const TICKS: i64 = 10_000_000;
const DAY_SECONDS: i64 = 86_400;
/// 1970-01-01, counted in days since 0001-01-01.
const EPOCH_DAY: i64 = 719_162;
/// 9999-12-31, counted in days since 0001-01-01.
const LAST_DAY: i64 = 3_652_058;

/// A point in time: seconds since 1970-01-01T00:00:00Z and nanoseconds behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

impl Timestamp {
    /// Reads the data of extension −1: 4, 8 or 12 bytes.
    pub(super) fn from_extension(data: &[u8]) -> Option<Self> {
        let (seconds, nanoseconds) = match *data {
            [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
            [a, b, c, d, e, f, g, h] => {
                let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (i64::try_from(both & 0x3_FFFF_FFFF).ok()?, u32::try_from(both >> 34).ok()?)
            }
            [n0, n1, n2, n3, a, b, c, d, e, f, g, h] => {
                (i64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([n0, n1, n2, n3]))
            }
            _ => return None,
        };
        (nanoseconds < 1_000_000_000).then_some(Self { seconds, nanoseconds })
    }

    /// Gives the data of extension −1 in its smallest form, and its length.
    pub(super) fn to_extension(self, out: &mut Vec<u8>) {
        use bytes::BufMut as _;
        match (u32::try_from(self.seconds), u64::try_from(self.seconds)) {
            (Ok(seconds), _) if self.nanoseconds == 0 => {
                out.put_slice(&[0xD6, 0xFF]);
                out.put_u32(seconds);
            }
            (_, Ok(seconds)) if seconds < 1 << 34 => {
                out.put_slice(&[0xD7, 0xFF]);
                out.put_u64(u64::from(self.nanoseconds) << 34 | seconds);
            }
            _ => {
                out.put_slice(&[0xC7, 12, 0xFF]);
                out.put_u32(self.nanoseconds);
                out.put_i64(self.seconds);
            }
        }
    }

    /// Writes the date and time of day without a suffix; `None` outside of the calendar.
    pub(super) fn to_text(self) -> Option<String> {
        let day = self.seconds.div_euclid(DAY_SECONDS).checked_add(EPOCH_DAY)?;
        let second = self.seconds.rem_euclid(DAY_SECONDS);
        let mut text = day_to_text(day)?;
        let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
        let _infallible = write!(text, "T{hours:02}:{minutes:02}:{seconds:02}");
        if self.nanoseconds > 0 {
            let fraction = format!(".{:09}", self.nanoseconds);
            text.push_str(fraction.trim_end_matches('0'));
        }
        Some(text)
    }
}

/// Reads a date with time of day; gives it as if its clock time were UTC, and the offset in minutes if it has one.
/// The time of day and its seconds may be missing; digits behind the nanosecond are cut.
pub(super) fn parse_date(text: &str) -> Option<(Timestamp, Option<i32>)> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let day = parse_day(date)?;
    let (mut second, mut nanoseconds, mut offset) = (0, 0, None);
    if let Some(time) = time {
        let (clock, minutes) = split_offset(time)?;
        offset = minutes;
        (second, nanoseconds) = parse_clock(clock)?;
    }
    Some((Timestamp { seconds: (day - EPOCH_DAY) * DAY_SECONDS + second, nanoseconds }, offset))
}

fn split_offset(time: &str) -> Option<(&str, Option<i32>)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, Some(0)));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, None)) };
    let (clock, offset) = time.split_at_checked(at)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes = two_digits(hours)? * 60 + two_digits(minutes).filter(|minutes| *minutes < 60)?;
    if minutes > 14 * 60 {
        return None;
    }
    let minutes = i32::try_from(minutes).ok()?;
    Some((clock, Some(if offset.starts_with('-') { -minutes } else { minutes })))
}

/// Reads `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…`: seconds and nanoseconds.
fn parse_clock(clock: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = match clock.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (clock, None),
    };
    let mut parts = whole.split(':');
    let hours = two_digits(parts.next()?).filter(|hours| *hours < 24)?;
    let minutes = two_digits(parts.next()?).filter(|minutes| *minutes < 60)?;
    let seconds = match parts.next() {
        Some(seconds) => two_digits(seconds).filter(|seconds| *seconds < 60)?,
        None if fraction.is_some() => return None,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    let nanoseconds = fraction.map_or(Some(0), parse_fraction)?;
    Some((hours * 3600 + minutes * 60 + seconds, nanoseconds))
}

fn parse_fraction(digits: &str) -> Option<u32> {
    if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut nanoseconds = 0;
    let padded = digits.bytes().chain(core::iter::repeat(b'0'));
    for digit in padded.take(9) {
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Some(nanoseconds)
}

fn two_digits(text: &str) -> Option<i64> {
    digits(text, 2)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Reads `2017-04-11` as days since 0001-01-01.
pub(super) fn parse_day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4).filter(|year| *year > 0)?;
    let month = two_digits(parts.next()?).filter(|month| (1..=12).contains(month))?;
    let day = two_digits(parts.next()?)?;
    if parts.next().is_some() || !(1..=days_of_month(year, month)).contains(&day) {
        return None;
    }
    let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
    Some(days_before_year(year) + months + day - 1)
}

/// Writes days since 0001-01-01 as `2017-04-11`; `None` outside of the calendar.
pub(super) fn day_to_text(day: i64) -> Option<String> {
    if !(0..=LAST_DAY).contains(&day) {
        return None;
    }
    let mut year = day / 366 + 1;
    while days_before_year(year + 1) <= day {
        year += 1;
    }
    let mut left = day - days_before_year(year);
    let mut month = 1;
    while left >= days_of_month(year, month) {
        left -= days_of_month(year, month);
        month += 1;
    }
    Some(format!("{year:04}-{month:02}-{:02}", left + 1))
}

const fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before / 4 - before / 100 + before / 400
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads `[-][d.]hh:mm:ss[.fffffff]` as ticks of 100 ns.
pub(super) fn parse_span(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (days, clock) = match (text.find('.'), text.find(':')) {
        (Some(dot), Some(colon)) if dot < colon => {
            let days = text.get(..dot)?;
            let plain = (1..=8).contains(&days.len()) && days.bytes().all(|byte| byte.is_ascii_digit());
            (days.parse::<i64>().ok().filter(|_| plain)?, text.get(dot + 1..)?)
        }
        _ => (0, text),
    };
    let ticks = parse_time_of_day(clock)?;
    let ticks = i128::from(days) * i128::from(DAY_SECONDS * TICKS) + i128::from(ticks);
    i64::try_from(if negative { -ticks } else { ticks }).ok()
}

/// Reads `hh:mm:ss[.fffffff]` as ticks of 100 ns.
pub(super) fn parse_time_of_day(text: &str) -> Option<i64> {
    if text.bytes().filter(|&byte| byte == b':').count() != 2 {
        return None;
    }
    let (seconds, nanoseconds) = parse_clock(text)?;
    Some(seconds * TICKS + i64::from(nanoseconds / 100))
}

/// Writes ticks of 100 ns as `[-][d.]hh:mm:ss[.fffffff]`.
pub(super) fn span_to_text(ticks: i64) -> String {
    let mut text = String::from(if ticks < 0 { "-" } else { "" });
    let all = ticks.unsigned_abs();
    let (tick, second) = (all % TICKS.unsigned_abs(), all / TICKS.unsigned_abs());
    let (days, second) = (second / DAY_SECONDS.unsigned_abs(), second % DAY_SECONDS.unsigned_abs());
    if days > 0 {
        let _infallible = write!(text, "{days}.");
    }
    let _infallible = write!(text, "{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if tick > 0 {
        let _infallible = write!(text, ".{tick:07}");
    }
    text
}

/// Writes ticks of 100 ns since midnight; `None` when that is another day.
pub(super) fn time_of_day_to_text(ticks: i64) -> Option<String> {
    (0..DAY_SECONDS * TICKS).contains(&ticks).then(|| span_to_text(ticks))
}
