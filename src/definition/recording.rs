//! Recordings that a simulated metric replays: CSV rows of `seconds,value` or `offset,value`.

use std::path::Path;
use std::time::Duration;

use crate::definition::scalar::GoDuration;
use crate::model::{Decimal, Problem};

/// Largest recording. Two weeks at one row a minute are about 300 kB.
pub const MAX_BYTES: usize = 1 << 20;

/// Most complaints about one file.
const MAX_PROBLEMS: usize = 10;

/// Offset from the start, and the value; none is a moment without data.
pub type Row = (Duration, Option<Decimal>);

/// Reads a recording. The first column is the offset from the start in seconds (`90`, `1.5`) or as
/// a duration (`1m30s`), strictly rising; the second the value, empty for a moment without data.
/// A first row of words is a heading; `#` begins a comment. The last row's offset is the length of
/// one round.
///
/// # Errors
/// With every row that does not fit.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Row>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut complain = |line: u64, message: String| {
        problems.push(Problem::new(path, message).at(usize::try_from(line).unwrap_or(0), 0));
        problems.len() >= MAX_PROBLEMS
    };
    let mut rows: Vec<Row> = Vec::new();
    if bytes.len() > MAX_BYTES {
        complain(0, format!("the recording is larger than {} MiB", MAX_BYTES >> 20));
        return Err(problems);
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(bytes);
    let mut last: Option<Duration> = None;
    for (index, record) in reader.records().enumerate() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                complain(error.position().map_or(0, csv::Position::line), "not valid CSV".into());
                break;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        if index == 0 && record.get(0).is_some_and(is_heading) {
            continue;
        }
        let message = match row(&record) {
            Ok((offset, _)) if last.is_some_and(|last| offset <= last) => {
                format!("the offset {} does not come after the row before", GoDuration(offset))
            }
            Ok(row) => {
                last = Some(row.0);
                rows.push(row);
                continue;
            }
            Err(message) => message,
        };
        if complain(line, message) {
            break;
        }
    }
    if problems.is_empty() && last.is_none_or(|last| last.is_zero()) {
        let message = "the recording is empty: its last row must be later than 0";
        problems.push(Problem::new(path, message));
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

fn is_heading(cell: &str) -> bool {
    !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
}

fn row(record: &csv::StringRecord) -> Result<Row, String> {
    if record.len() != 2 {
        return Err(format!("expected two columns, offset and value, found {}", record.len()));
    }
    Ok((offset(&record[0])?, value(&record[1])?))
}

fn offset(text: &str) -> Result<Duration, String> {
    // A number is seconds; reading it as such keeps fractions exact.
    let is_number =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    let written = if is_number { format!("{text}s") } else { text.to_owned() };
    written
        .parse::<GoDuration>()
        .map(|duration| duration.0)
        .map_err(|_| format!("{text:?} is not an offset; write seconds (90) or a duration (1m30s)"))
}

fn value(text: &str) -> Result<Option<Decimal>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    Decimal::parse_quantity(text).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(Path::new("r.csv"), text.as_bytes())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn reads_seconds_and_durations() {
        let rows = parse(Path::new("r.csv"), b"seconds,value\n# a comment\n0, 5\n1.5,\n1m30s,2k\n")
            .unwrap();
        assert_eq!(
            rows,
            [
                (Duration::ZERO, Some(5_u64.into())),
                (Duration::from_millis(1500), None),
                (Duration::from_secs(90), Some(2000_u64.into())),
            ]
        );
    }

    #[test]
    fn every_bad_row_is_named() {
        assert_eq!(
            problems("0,1\nx1,2\n5,many\n5\n3,1\n3,1\n-1,2\n4,NaN\n"),
            [
                "r.csv:2: \"x1\" is not an offset; write seconds (90) or a duration (1m30s)",
                "r.csv:3: \"many\" is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi",
                "r.csv:4: expected two columns, offset and value, found 1",
                "r.csv:6: the offset 3s does not come after the row before",
                "r.csv:7: \"-1\" is not an offset; write seconds (90) or a duration (1m30s)",
                "r.csv:8: NaN is not a finite number",
            ]
        );
        let empty = "r.csv: the recording is empty: its last row must be later than 0";
        assert_eq!(problems(""), [empty]);
        assert_eq!(problems("offset,value\n0,1\n"), [empty]);
        assert_eq!(problems(&"x1,1\n".repeat(100)).len(), MAX_PROBLEMS);
        assert_eq!(
            problems(&" ".repeat(MAX_BYTES + 1)),
            ["r.csv: the recording is larger than 1 MiB"]
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("r.csv"), &bytes);
        }
    }
}
