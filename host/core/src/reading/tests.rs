use std::sync::Arc;

use arrow_array::TimestampMicrosecondArray;
use proptest::prelude::*;

use super::*;

fn reading(format: Option<&str>, zone: Option<&str>) -> Reading {
    Reading {
        format: format.map(|format| format.parse().unwrap()),
        zone: zone.map(|zone| zone.parse().unwrap()),
        ..Reading::default()
    }
}

fn check(reading: &Reading, text: &str, wanted: Result<&str, &str>) {
    let found = reading.text_timestamp(text).map(|time| time.to_string());
    match (found, wanted) {
        (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
        (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
        (found, wanted) => panic!("{text}: {found:?}, wanted {wanted:?}"),
    }
}

#[test]
fn times_without_a_zone_are_those_of_the_declared_zone_or_refused() {
    let without = "names no time zone; write an offset after it, such as Z or -05:00, or declare";
    for (zone, text, wanted) in [
        (None, "2024-07-01T12:00:00", Err(without)),
        (None, "2024-07-01 12:00:00.5", Err(without)),
        (None, "2024-07-01 12:00", Err(without)),
        (
            None,
            "2024-07-01T12:00:00+02:00",
            Ok("2024-07-01T10:00:00Z"),
        ),
        (
            Some("UTC"),
            "2024-07-01T12:00:00",
            Ok("2024-07-01T12:00:00Z"),
        ),
        (Some("UTC"), "2024-07-01 12:00", Ok("2024-07-01T12:00:00Z")),
        (
            Some("Europe/Berlin"),
            "2024-07-01 12:00:00.000001",
            Ok("2024-07-01T10:00:00.000001Z"),
        ),
        (
            Some("Europe/Berlin"),
            "2024-01-01T12:00:00",
            Ok("2024-01-01T11:00:00Z"),
        ),
        (
            Some("Europe/Berlin"),
            "2024-01-01",
            Ok("2023-12-31T23:00:00Z"),
        ),
        (Some("UTC"), "2024-01-01", Ok("2024-01-01T00:00:00Z")),
        (
            None,
            "2024-01-01",
            Err("names no time zone; write a time with an offset, such as 2024-01-01T00:00:00Z"),
        ),
        // Clocks in Beirut were set forward at midnight.
        (Some("Asia/Beirut"), "2024-03-31", Err("does not exist")),
        // A time that names its zone is in that one.
        (
            Some("Europe/Berlin"),
            "2024-01-01T12:00:00Z",
            Ok("2024-01-01T12:00:00Z"),
        ),
        (
            Some("+05:30"),
            "2024-01-01T12:00:00",
            Ok("2024-01-01T06:30:00Z"),
        ),
        (
            Some("Europe/Berlin"),
            "2024-03-31T02:30:00",
            Err("does not exist in Europe/Berlin"),
        ),
        (
            Some("Europe/Berlin"),
            "2024-10-27T02:30:00",
            Err("it is 2024-10-27T00:30:00Z or 2024-10-27T01:30:00Z"),
        ),
        (
            Some("+01:00"),
            "2024-10-27T02:30:00",
            Ok("2024-10-27T01:30:00Z"),
        ),
        (
            Some("Europe/Berlin"),
            "2150-07-01T12:00:00",
            Err("is after 2099"),
        ),
        (
            Some("UTC"),
            "9999-12-31T23:59:59",
            Ok("9999-12-31T23:59:59Z"),
        ),
        (
            Some("-01:00"),
            "9999-12-31T23:59:59",
            Err("outside of the years 1 to 9999"),
        ),
        (Some("UTC"), "2024-01-01T00:00:60", Err("is a leap second")),
        (
            Some("UTC"),
            "2024-01-01T00:00:00.1234567",
            Err("digits beyond microseconds"),
        ),
        (
            Some("UTC"),
            "2024-01-01T00:00:00.1234560001",
            Err("digits beyond microseconds"),
        ),
        (
            Some("UTC"),
            "2024-01-01T00:00:00.1234560000",
            Ok("2024-01-01T00:00:00.123456Z"),
        ),
        (Some("UTC"), "01.02.2024", Err("is not a time")),
        (Some("UTC"), "2024-01-01T", Err("is not a time")),
        (Some("UTC"), "2024-01-01x", Err("is not a time")),
        // Each field has its two digits, with and without an offset.
        (Some("UTC"), "2024-01-01 1:5", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01:5", Err("is not a time")),
        (Some("UTC"), "2024-01-01 1:05:00", Err("is not a time")),
        (Some("UTC"), "2024-01-01T01:05:0", Err("is not a time")),
        (Some("UTC"), "2024-01-01  1:05", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01: 5", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01:05.5", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01:05:00.", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01:05:00,5", Err("is not a time")),
        (Some("UTC"), "2024-01-01 01:05 ", Err("is not a time")),
        (Some("UTC"), "2024-01-01T1:05:00Z", Err("is not a time")),
        (Some("UTC"), "2024-01-01T01:05Z", Err("is not a time")),
        (
            Some("UTC"),
            "2024-01-01T01:05:00\u{2212}05:00",
            Err("is not a time"),
        ),
        (Some("UTC"), "1704067200000000us", Err("is not a time")),
        (None, "1704067200000000us", Err("is not a time")),
        (Some("UTC"), "1704067200", Err("is a number")),
    ] {
        check(&reading(None, zone), text, wanted);
    }
}

proptest! {
    #[test]
    fn times_are_read_if_they_have_all_digits_and_nothing_else(
        hour in 0..24_u32,
        minute in 0..60_u32,
        second in 0..60_u32,
        widths in (1..4_usize, 1..4_usize, 1..4_usize),
        offset in proptest::option::of(-839..=839_i32),
        separator in "[Tt :]",
    ) {
        let (a, b, c) = widths;
        let zone = offset.map_or_else(String::new, |offset| {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        });
        let text =
            format!("2024-02-29{separator}{hour:0a$}:{minute:0b$}:{second:0c$}{zone}");
        let day = "2024-02-29".len();
        let time = &text[day + 1..text.len() - zone.len()];
        let is_wanted = separator != ":" && time == format!("{hour:02}:{minute:02}:{second:02}");
        let found = reading(None, Some("UTC")).text_timestamp(&text).ok();
        let seconds = i64::from(hour * 3_600 + minute * 60 + second);
        let seconds = seconds - i64::from(offset.unwrap_or(0)) * 60;
        // 2024-02-29T00:00:00Z
        let wanted = Timestamp::from_micros((1_709_164_800 + seconds) * 1_000_000);
        prop_assert_eq!(found, is_wanted.then_some(wanted), "{}", text);
    }
}

#[test]
fn texts_are_read_by_the_declared_format_alone() {
    let german = "%d.%m.%Y %H:%M:%S";
    for (format, zone, text, wanted) in [
        (
            german,
            Some("UTC"),
            "03.04.2024 10:15:00",
            Ok("2024-04-03T10:15:00Z"),
        ),
        (
            german,
            Some("UTC"),
            "2024-04-03T10:15:00Z",
            Err("is not of the format"),
        ),
        (
            german,
            Some("UTC"),
            "03.04.2024 10:15:00 ",
            Err("is not of the format"),
        ),
        (
            german,
            Some("UTC"),
            "31.02.2024 10:15:00",
            Err("is not of the format"),
        ),
        (
            german,
            None,
            "03.04.2024 10:15:00",
            Err("names no time zone"),
        ),
        (
            "%m/%d/%y",
            Some("UTC"),
            "04/03/24",
            Ok("2024-04-03T00:00:00Z"),
        ),
        (
            "%Y%m%d",
            Some("Europe/Berlin"),
            "20240403",
            Ok("2024-04-02T22:00:00Z"),
        ),
        (
            "%I:%M %p %d %b %Y",
            Some("UTC"),
            "01:15 PM 03 Apr 2024",
            Ok("2024-04-03T13:15:00Z"),
        ),
        (
            "%d/%b/%Y:%H:%M:%S %z",
            None,
            "10/Oct/2000:13:55:36 -0700",
            Ok("2000-10-10T20:55:36Z"),
        ),
        ("%s", None, "1704067200", Ok("2024-01-01T00:00:00Z")),
        // The notation of Python.
        (
            "%Y-%m-%d %H:%M:%S.%f",
            Some("UTC"),
            "2024-01-01 00:00:00.25",
            Ok("2024-01-01T00:00:00.250Z"),
        ),
        (
            "%Y-%m-%d %H:%M:%S.%f",
            Some("UTC"),
            "2024-01-01 00:00:00.1234567",
            Err("beyond microseconds"),
        ),
    ] {
        check(&reading(Some(format), zone), text, wanted);
    }
}

#[test]
fn digits_beyond_microseconds_are_those_of_a_fraction_of_a_second() {
    for (format, text, wanted) in [
        (
            "%Y.%m%d%H%M%S",
            "2024.0229134521",
            Ok("2024-02-29T13:45:21Z"),
        ),
        (
            "%Y.%m%d%H%M%S.%f",
            "2024.0229134521.5",
            Ok("2024-02-29T13:45:21.500Z"),
        ),
        (
            "%Y.%m%d%H%M%S.%f",
            "2024.0229134521.1234567",
            Err("digits beyond microseconds"),
        ),
        (
            "%Y-%m-%d %H:%M:%S.%f",
            "2024-01-01 00:00:00.1234560001",
            Err("digits beyond microseconds"),
        ),
        (
            "%Y-%m-%d %H:%M:%S.%f",
            "2024-01-01 00:00:00.1234560000",
            Ok("2024-01-01T00:00:00.123456Z"),
        ),
        (
            "%+",
            "2024-01-01T00:00:00.1234560001Z",
            Err("digits beyond microseconds"),
        ),
        (
            "%Y-%m-%d %H:%M:%S,%9f",
            "2024-01-01 00:00:00,123456001",
            Err("digits beyond microseconds"),
        ),
    ] {
        check(&reading(Some(format), Some("UTC")), text, wanted);
    }
    // Parsers keep nine digits, and this time is not a midnight.
    let day = reading(Some("%Y-%m-%d %H:%M:%S.%f"), None);
    let error = day.text_date("2024-01-01 00:00:00.0000000001").unwrap_err();
    assert!(error.contains("is not a whole day"), "{error}");
    assert_eq!(day.text_date("2024-01-01 00:00:00.0"), Ok(19_723));
}

#[test]
fn integers_are_read_by_the_format_however_they_are_written() {
    for (format, text, wanted) in [
        ("%Y%m%d", "20240403.0", Ok("2024-04-03T00:00:00Z")),
        ("%Y%m%d", "2.0240403e7", Ok("2024-04-03T00:00:00Z")),
        ("%s", "1704067200.0", Ok("2024-01-01T00:00:00Z")),
        (
            "%Y%m%d%H%M%S",
            "20240403101500.000",
            Ok("2024-04-03T10:15:00Z"),
        ),
        // It is not an integer, or one that is not of the format.
        (
            "%Y%m%d",
            "20240403.5",
            Err("`20240403.5` is not of the format `%Y%m%d`"),
        ),
        (
            "%d%m%Y",
            "01042024.0",
            Err("`01042024.0` is not of the format"),
        ),
        ("%Y%m%d", "020240403", Err("is not of the format")),
        ("%Y%m%d", "+20240403", Err("is not of the format")),
        ("%Y%m%d", "020240403.0", Err("is not of the format")),
        ("%Y%m%d", "+20240403.0", Err("is not of the format")),
        ("%s", "0.0", Ok("1970-01-01T00:00:00Z")),
        ("%s", "00.0", Err("is not of the format")),
        // The format itself says what the point is.
        ("%Y.%m%d", "2024.0403", Ok("2024-04-03T00:00:00Z")),
    ] {
        let reading = reading(Some(format), Some("UTC"));
        check(&reading, text, wanted);
        let date = reading.text_date(text);
        assert_eq!(
            date.is_ok(),
            wanted.is_ok_and(|time| time.ends_with("T00:00:00Z"))
        );
    }
}

#[test]
fn fields_of_a_format_have_all_their_digits_where_numbers_adjoin() {
    for (format, text, wanted) in [
        // Leading zeros may be missing between separators.
        ("%d/%m/%Y", "03/04/2024", Ok("2024-04-03T00:00:00Z")),
        ("%d/%m/%Y", "3/4/2024", Ok("2024-04-03T00:00:00Z")),
        ("%d/%m/%Y", " 3/ 4/2024", Ok("2024-04-03T00:00:00Z")),
        ("%d/%m/%y", "3/4/24", Ok("2024-04-03T00:00:00Z")),
        (
            "%Y-%m-%d %H:%M",
            "2024-1-3 1:05",
            Ok("2024-01-03T01:05:00Z"),
        ),
        ("%d%b%Y", "3Apr2024", Ok("2024-04-03T00:00:00Z")),
        (
            "%d.%m.%Y %I:%M%p",
            "3.4.2024 1:05PM",
            Ok("2024-04-03T13:05:00Z"),
        ),
        // Years have all their digits everywhere.
        (
            "%d/%m/%Y",
            "03/04/24",
            Err("`03/04/24` is not of the format `%d/%m/%Y`: the year needs 4 digits and has 2"),
        ),
        (
            "%d/%m/%Y",
            "03/04/024",
            Err("the year needs 4 digits and has 3"),
        ),
        (
            "%d/%m/%Y",
            "03/04/+24",
            Err("the year needs 4 digits and has 2"),
        ),
        ("%d/%m/%Y", "03/04/20240", Err("is left over at its end")),
        ("%d/%m/%Y", "03/04/0024", Ok("0024-04-03T00:00:00Z")),
        ("%F", "24-04-03", Err("the year needs 4 digits and has 2")),
        (
            "%G-W%V-%u",
            "24-W02-1",
            Err("the year needs 4 digits and has 2"),
        ),
        ("%G-W%V-%u", "2024-W2-1", Ok("2024-01-08T00:00:00Z")),
        (
            "%d/%m/%y",
            "03/04/4",
            Err("the year needs 2 digits and has 1"),
        ),
        ("%d/%m/%y", "03/04/2024", Err("is left over at its end")),
        ("%d/%m/%-y", "03/04/4", Ok("2004-04-03T00:00:00Z")),
        (
            "%d/%m/%Y %H:%M",
            "31/12/24 00:00",
            Err("the year needs 4 digits and has 2"),
        ),
        ("%+", "2024-04-03T10:15:00Z", Ok("2024-04-03T10:15:00Z")),
        (
            "%+",
            "24-04-03T10:15:00Z",
            Err("the year needs 4 digits and has 2"),
        ),
        ("%Y-%j", "2024-094", Ok("2024-04-03T00:00:00Z")),
        (
            "%Y-%j",
            "2024-94",
            Err("the day of the year needs 3 digits and has 2"),
        ),
        ("%Y-%-j", "2024-94", Ok("2024-04-03T00:00:00Z")),
        // Fields that adjoin have all their digits.
        ("%Y%m%d", "20240403", Ok("2024-04-03T00:00:00Z")),
        (
            "%Y%m%d",
            "2024011",
            Err("the day needs 2 digits and has 1, because another number adjoins it"),
        ),
        (
            "%Y%m%d",
            "2024 4 3",
            Err("there is a blank before the month"),
        ),
        ("%Y%m%e", "202404 3", Ok("2024-04-03T00:00:00Z")),
        ("%y%m%d", "240403", Ok("2024-04-03T00:00:00Z")),
        ("%y%m%d", "50101", Err("the day needs 2 digits and has 1")),
        ("%d%m%Y", "03042024", Ok("2024-04-03T00:00:00Z")),
        (
            "%d%m%Y",
            "1012024",
            Err("the year needs 4 digits and has 3"),
        ),
        ("%Y%m%d %H:%M", "20241101 1:02", Ok("2024-11-01T01:02:00Z")),
        (
            "%Y%m%d %H:%M",
            "2024111 1:2",
            Err("the day needs 2 digits and has 1"),
        ),
        ("%Y%m%d%H%M%S", "20240403101500", Ok("2024-04-03T10:15:00Z")),
        (
            "%Y%m%d%H%M%S",
            "2024040310150",
            Err("the second needs 2 digits and has 1"),
        ),
        (
            "%Y%m%d%H%M%S%3f",
            "20240403101500250",
            Ok("2024-04-03T10:15:00.250Z"),
        ),
        // So they have where the blank of the format is missing, and it is to be there.
        (
            "%d/%m/%y %H%M",
            "03/04/2012 00",
            Err("where the format has a blank"),
        ),
        (
            "%Y-%m-%d %H:%M",
            "2024-04-031:05",
            Err("where the format has a blank"),
        ),
        // Seconds since 1970 have any number of digits.
        ("%s", "1704067200", Ok("2024-01-01T00:00:00Z")),
        ("%s", "0", Ok("1970-01-01T00:00:00Z")),
    ] {
        check(&reading(Some(format), Some("UTC")), text, wanted);
    }
    let compact = reading(Some("%y%m%d"), Some("UTC"));
    let error = compact.integer_timestamp(50_101).unwrap_err();
    assert!(error.contains("`50101` is not of the format"), "{error}");
    let error = compact.integer_date(50_101).unwrap_err();
    assert!(
        error.contains("the day needs 2 digits and has 1"),
        "{error}"
    );
}

#[test]
fn years_of_two_digits_are_from_1969_to_2068() {
    let two_digits = reading(Some("%d.%m.%y"), Some("UTC"));
    for (text, wanted) in [
        ("03.04.00", "2000-04-03T00:00:00Z"),
        ("03.04.68", "2068-04-03T00:00:00Z"),
        ("03.04.69", "1969-04-03T00:00:00Z"),
        ("03.04.70", "1970-04-03T00:00:00Z"),
        ("03.04.99", "1999-04-03T00:00:00Z"),
    ] {
        check(&two_digits, text, Ok(wanted));
    }
    // A format that names the century has its own.
    let century = reading(Some("%d.%m.%C%y"), Some("UTC"));
    check(&century, "03.04.2069", Ok("2069-04-03T00:00:00Z"));
    // Weeks have years of their own.
    let weeks = reading(Some("%g-W%V-%u"), Some("UTC"));
    check(&weeks, "69-W02-1", Ok("1969-01-06T00:00:00Z"));
}

#[test]
fn time_that_would_be_read_as_another_one_is_not_written() {
    let written = |format: &str, time: &str| {
        let iso = reading(None, Some("UTC"));
        let micros = iso.text_timestamp(time).unwrap().as_micros();
        let times = TimestampMicrosecondArray::from(vec![micros]);
        let column: ArrayRef = Arc::new(times.with_timezone("UTC"));
        reading(Some(format), Some("UTC")).written(&column, 0)
    };
    for (format, time, wanted) in [
        ("%d.%m.%y", "1969-04-03", Some("03.04.69")),
        ("%d.%m.%y", "2068-04-03", Some("03.04.68")),
        ("%d.%m.%y", "2069-04-03", None),
        ("%d.%m.%y", "1968-04-03", None),
        ("%d.%m.%y", "2024-04-03T10:15:00", None),
        (
            "%Y-%m-%d %H:%M:%S",
            "2024-04-03T10:15:00",
            Some("2024-04-03 10:15:00"),
        ),
        ("%Y-%m-%d %H:%M:%S", "2024-04-03T10:15:00.5", None),
    ] {
        assert_eq!(written(format, time).as_deref(), wanted, "{format} {time}");
    }
}

#[test]
fn formats_that_do_not_say_a_whole_time_are_refused() {
    for (format, wanted) in [
        ("%d.%m.%Y", ""),
        ("%Y-%jT%H:%M", ""),
        ("%G-W%V-%u", ""),
        ("%Q", "is not a format of times"),
        ("", "does not say a whole time"),
        ("%H:%M:%S", "does not say a whole time"),
        ("%d.%m.", "does not say a whole time"),
        ("%Y-%m-%d %I:%M", "does not say a whole time"),
        ("%Y-%m-%d %H:%M:%S %Z", "declare the `zone`"),
        (
            "%Y-%m-%d %H:%M:%S,%f",
            "write the fraction of a second as `.%f`",
        ),
    ] {
        match (format.parse::<TimeFormat>(), wanted) {
            (Ok(_), "") => {}
            (Err(error), part) if !part.is_empty() => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{format}: {found:?}"),
        }
    }
}

#[test]
fn dates_have_a_format_and_no_time() {
    let read = |format: &str, text: &str| reading(Some(format), None).text_date(text);
    assert_eq!(read("%d.%m.%Y", "02.01.1970"), Ok(1));
    assert_eq!(read("%d.%m.%Y %H:%M", "02.01.1970 00:00"), Ok(1));
    let error = read("%d.%m.%Y %H:%M", "02.01.1970 00:01").unwrap_err();
    assert!(error.contains("is not a whole day"), "{error}");
    assert_eq!(Reading::default().text_date("1970-01-02"), Ok(1));
    let compact = reading(Some("%Y%m%d"), None);
    assert_eq!(compact.integer_date(19_700_102), Ok(1));
}

#[test]
fn digits_beyond_microseconds_are_cut_off_only_where_it_is_declared() {
    let cut = Reading {
        truncate: true,
        ..reading(None, Some("UTC"))
    };
    check(
        &cut,
        "2024-01-01T00:00:00.123456789Z",
        Ok("2024-01-01T00:00:00.123456Z"),
    );
    check(
        &cut,
        "2024-01-01T00:00:00.123456789",
        Ok("2024-01-01T00:00:00.123456Z"),
    );
    let nanos = |count| {
        cut.counted(EpochUnit::Nanoseconds, count)
            .unwrap()
            .to_string()
    };
    assert_eq!(nanos(1_999), "1970-01-01T00:00:00.000001Z");
    assert_eq!(nanos(-1), "1969-12-31T23:59:59.999999Z");
}

#[test]
fn zones_are_names_or_offsets() {
    for text in [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "+05:30",
        "-03:00",
    ] {
        assert_eq!(text.parse::<Zone>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "Berlin",
        "europe/berlin",
        "+1",
        "+01:00x",
        "local",
        "CEST",
    ] {
        let error = text.parse::<Zone>().unwrap_err();
        assert!(error.contains("is not a time zone"), "{error}");
    }
}
