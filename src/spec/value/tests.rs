//! Small values, text by text.

use super::*;

/// Texts that parse, and how they are shown again.
fn shown<T: FromStr<Err = ValueError> + fmt::Display>(texts: &[&str]) -> Vec<String> {
    texts
        .iter()
        .map(|text| {
            text.parse::<T>()
                .unwrap_or_else(|e| panic!("{text}: {e}"))
                .to_string()
        })
        .collect()
}

/// Texts that do not parse.
fn refused<T: FromStr<Err = ValueError> + fmt::Debug>(texts: &[&str]) {
    for text in texts {
        assert!(text.parse::<T>().is_err(), "{text:?}");
    }
}

#[test]
fn what_is_written_is_shown_again() {
    let names = ["build", "a.b_c-1", "R2"];
    assert_eq!(shown::<Name>(&names), names);
    let accounts = ["app", "_apt", "host$", "Debian-exim", "www.data"];
    assert_eq!(shown::<AccountName>(&accounts), accounts);
    let owners = ["app", "app:app", "0", "1000:1000", "app:0"];
    assert_eq!(shown::<Owner>(&owners), owners);
    let tags = ["1.4.0", "latest", "_x"];
    assert_eq!(shown::<Tag>(&tags), tags);
    let urls = ["https://example.com/a.tar.gz", "http://127.0.0.1:80"];
    assert_eq!(shown::<HttpUrl>(&urls), urls);
    let signals = ["SIGTERM", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMAX-2", "9", "64"];
    assert_eq!(shown::<Signal>(&signals), signals);
    let compressions = ["none", "gzip", "gzip:9", "zstd", "zstd:22"];
    assert_eq!(shown::<Compression>(&compressions), compressions);
}

#[test]
fn what_is_outside_a_grammar_is_refused() {
    refused::<Name>(&[
        "",
        "scratch",
        "0",
        "-a",
        "a/b",
        "a:b",
        "a b",
        "é",
        &"a".repeat(129),
    ]);
    refused::<AccountName>(&["", "1a", "a:b", "a\nb", "a b", "$", &"a".repeat(33)]);
    refused::<Owner>(&["", ":", "a:", ":a", "a:b:c", "-1", "4294967295", "a b"]);
    refused::<Tag>(&["", "-x", "app:1", "a b"]);
    refused::<HttpUrl>(&[
        "",
        "ftp://x/y",
        "https://",
        "https:///x",
        "https://a b",
        "https://u:p@x/y",
    ]);
    refused::<Signal>(&[
        "",
        "TERM",
        "sigterm",
        "0",
        "65",
        "SIGRTMIN-1",
        "SIGRTMIN+31",
        "SIGX",
        "+9",
    ]);
    refused::<Compression>(&[
        "", "lz4", "gzip:", "gzip:0", "gzip:13", "zstd:23", "none:1", "gzip:+9",
    ]);
}

#[test]
fn ports_are_expanded() {
    let ports = |text: &str| -> Vec<String> {
        Port::parse_range(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(ports("8080"), ["8080/tcp"]);
    assert_eq!(ports("53/udp"), ["53/udp"]);
    assert_eq!(ports("1-3/tcp"), ["1/tcp", "2/tcp", "3/tcp"]);
    for text in [
        "",
        "0",
        "65536",
        "3-1",
        "8080:80",
        "80/sctp",
        "80/",
        "-1",
        "1-",
        "+80",
        "80/tcp/tcp",
    ] {
        assert!(Port::parse_range(text).is_err(), "{text:?}");
    }
}

#[test]
fn remedies_name_what_was_meant() {
    for (error, remedy) in [
        ("term".parse::<Signal>().unwrap_err(), "write SIGTERM"),
        ("app:1".parse::<Tag>().unwrap_err(), "write only \"1\""),
        (Port::parse_range("80:80").unwrap_err(), "run -p"),
    ] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
}
