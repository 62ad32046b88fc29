//! The rules of a config document.

use serde_json::Value;

use crate::image::validate::rule::{Rule, Violations};
use crate::oci::{DiffId, Platform};

/// What the rest of the judge needs to know of a config.
pub(crate) struct ConfigFacts {
    pub(crate) platform: Option<Platform>,
    /// One for each entry of the list, `None` where it is no digest.
    pub(crate) diff_ids: Vec<Option<DiffId>>,
}

/// Judges the config of an image with so many layers.
pub(crate) fn judge(
    document: &Value,
    place: &str,
    layers: usize,
    found: &mut Violations,
) -> ConfigFacts {
    let text = |field: &str| document[field].as_str().filter(|text| !text.is_empty());
    for field in ["os", "architecture"] {
        found.must(text(field).is_some(), Rule::Config, place, || {
            format!("{field} is {}", document[field])
        });
    }
    let platform = text("os")
        .zip(text("architecture"))
        .map(|(os, architecture)| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: text("variant").map(str::to_owned),
        });
    time(&document["created"], "created", place, found);
    for field in ["author", "variant"] {
        typed(&document[field], Value::is_string, field, place, found);
    }
    settings(&document["config"], place, found);
    let rootfs = &document["rootfs"];
    found.must(rootfs["type"] == "layers", Rule::RootFsType, place, || {
        format!("rootfs.type is {}", rootfs["type"])
    });
    let diff_ids = diff_ids(&rootfs["diff_ids"], place, found);
    found.must(diff_ids.len() == layers, Rule::DiffIdCount, place, || {
        format!("lists {} diff_ids for {layers} layers", diff_ids.len())
    });
    history(&document["history"], layers, place, found);
    ConfigFacts { platform, diff_ids }
}

fn diff_ids(value: &Value, place: &str, found: &mut Violations) -> Vec<Option<DiffId>> {
    let Some(list) = value.as_array() else {
        // Go writes an empty list as null.
        found.must(value.is_null(), Rule::Config, place, || {
            format!("rootfs.diff_ids is {value}")
        });
        return Vec::new();
    };
    list.iter()
        .map(|value| {
            let diff_id = value
                .as_str()
                .and_then(|text| text.parse().ok())
                .map(DiffId);
            found.must(diff_id.is_some(), Rule::Config, place, || {
                format!("{value} in rootfs.diff_ids is no digest")
            });
            diff_id
        })
        .collect()
}

fn history(value: &Value, layers: usize, place: &str, found: &mut Violations) {
    typed(value, Value::is_array, "history", place, found);
    let lines = value.as_array().map_or(&[][..], Vec::as_slice);
    if lines.is_empty() {
        return;
    }
    let mut standing = 0;
    for (position, line) in lines.iter().enumerate() {
        let name = |field: &str| format!("history[{position}].{field}");
        typed(
            line,
            Value::is_object,
            &format!("history[{position}]"),
            place,
            found,
        );
        time(&line["created"], &name("created"), place, found);
        for field in ["created_by", "author", "comment"] {
            typed(&line[field], Value::is_string, &name(field), place, found);
        }
        typed(
            &line["empty_layer"],
            Value::is_boolean,
            &name("empty_layer"),
            place,
            found,
        );
        standing += usize::from(line["empty_layer"] != true);
    }
    found.must(standing == layers, Rule::HistoryCount, place, || {
        format!("{standing} lines of history stand for {layers} layers")
    });
}

fn settings(config: &Value, place: &str, found: &mut Violations) {
    typed(config, Value::is_object, "config", place, found);
    for field in ["User", "WorkingDir", "StopSignal"] {
        typed(
            &config[field],
            Value::is_string,
            &format!("config.{field}"),
            place,
            found,
        );
    }
    for field in ["Env", "Entrypoint", "Cmd", "Shell", "OnBuild"] {
        let is_texts = |value: &Value| {
            value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string))
        };
        typed(
            &config[field],
            is_texts,
            &format!("config.{field}"),
            place,
            found,
        );
    }
    for line in config["Env"].as_array().into_iter().flatten() {
        let is_variable = line.as_str().is_some_and(|line| {
            line.split_once('=')
                .is_some_and(|(name, _)| !name.is_empty())
        });
        found.must(is_variable, Rule::Config, place, || {
            format!("{line} in config.Env is not NAME=value")
        });
    }
    let is_set = |value: &Value| {
        value.as_object().is_some_and(|set| {
            set.values()
                .all(|value| value.is_object() || value.is_null())
        })
    };
    for field in ["ExposedPorts", "Volumes"] {
        typed(
            &config[field],
            is_set,
            &format!("config.{field}"),
            place,
            found,
        );
    }
    for port in config["ExposedPorts"]
        .as_object()
        .into_iter()
        .flat_map(|set| set.keys())
    {
        found.must(is_port(port), Rule::Config, place, || {
            format!("{port:?} in config.ExposedPorts is no port")
        });
    }
    let is_labels = |value: &Value| {
        value
            .as_object()
            .is_some_and(|labels| labels.values().all(Value::is_string))
    };
    typed(&config["Labels"], is_labels, "config.Labels", place, found);
    healthcheck(&config["Healthcheck"], place, found);
}

/// Docker's extension; its durations are integers of nanoseconds.
fn healthcheck(check: &Value, place: &str, found: &mut Violations) {
    typed(check, Value::is_object, "config.Healthcheck", place, found);
    let words = check["Test"].as_array().map_or(&[][..], Vec::as_slice);
    let is_known = match words {
        [] => true,
        [first, rest @ ..] => {
            rest.iter().all(Value::is_string)
                && match first.as_str() {
                    Some("NONE") => rest.is_empty(),
                    Some("CMD") => !rest.is_empty(),
                    Some("CMD-SHELL") => rest.len() == 1,
                    _ => false,
                }
        }
    };
    found.must(is_known, Rule::Config, place, || {
        format!("config.Healthcheck.Test is {}", check["Test"])
    });
    for field in [
        "Interval",
        "Timeout",
        "StartPeriod",
        "StartInterval",
        "Retries",
    ] {
        typed(
            &check[field],
            Value::is_u64,
            &format!("config.Healthcheck.{field}"),
            place,
            found,
        );
    }
}

/// A field may be absent; if it is there it has its type.
fn typed(
    value: &Value,
    has_type: impl Fn(&Value) -> bool,
    name: &str,
    place: &str,
    found: &mut Violations,
) {
    found.must(
        value.is_null() || has_type(value),
        Rule::Config,
        place,
        || format!("{name} is {value}"),
    );
}

fn time(value: &Value, name: &str, place: &str, found: &mut Violations) {
    let is_time = value.is_null() || value.as_str().is_some_and(is_rfc3339);
    found.must(is_time, Rule::Time, place, || format!("{name} is {value}"));
}

/// `PORT`, `PORT/tcp`, `PORT/udp`, and `sctp`, which Docker knows.
fn is_port(text: &str) -> bool {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    number.parse::<u16>().is_ok() && matches!(protocol, "tcp" | "udp" | "sctp")
}

/// RFC 3339, section 5.6, `date-time`.
fn is_rfc3339(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', 't']) else {
        return false;
    };
    let zone_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let zone_fits = match zone {
        "Z" | "z" => true,
        _ => zone
            .get(1..)
            .is_some_and(|offset| fits(offset, ':', &[(2, 0, 23), (2, 0, 59)])),
    };
    fits(date, '-', &[(4, 0, 9999), (2, 1, 12), (2, 1, 31)])
        && fits(clock, ':', &[(2, 0, 23), (2, 0, 59), (2, 0, 60)])
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && zone_fits
}

/// Whether the parts of `text` are numbers of so many digits, from a least to a most.
fn fits(text: &str, separator: char, parts: &[(usize, u32, u32)]) -> bool {
    let found: Vec<&str> = text.split(separator).collect();
    found.len() == parts.len()
        && found
            .iter()
            .zip(parts)
            .all(|(part, (digits, least, most))| {
                part.len() == *digits
                    && part.bytes().all(|byte| byte.is_ascii_digit())
                    && part
                        .parse()
                        .is_ok_and(|number: u32| (*least..=*most).contains(&number))
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29t23:59:60.123456789z",
            "2024-01-01T00:00:00+02:00",
            "2024-01-01T00:00:00.5-11:30",
        ] {
            assert!(is_rfc3339(text), "{text}");
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "70-01-01T00:00:00Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00é",
        ] {
            assert!(!is_rfc3339(text), "{text}");
        }
    }
}
