//! Each rule has trees that trigger it and trees that do not.

use super::*;
use crate::oci::{Healthcheck, RuntimeConfig};
use crate::tree::{Node, Xattrs};
use proptest::prelude::*;

struct InMemory;

impl Contents for InMemory {
    fn head(&self, _: &Content, _: usize) -> io::Result<Vec<u8>> {
        Err(io::Error::other(
            "all contents of these tests are in memory",
        ))
    }
}

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// A program without a loader: an ELF header for amd64 and no segments.
fn program() -> Vec<u8> {
    elf(62, None)
}

/// A 64-bit little-endian ELF file with at most one segment: its loader.
fn elf(machine: u8, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes[32] = 64;
    bytes[54] = 56;
    if let Some(loader) = loader {
        bytes[56] = 1;
        let mut segment = vec![0; 56];
        segment[0] = 3;
        segment[8] = 120;
        segment[32] = loader.len() as u8 + 1;
        bytes.extend(segment);
        bytes.extend(loader.as_bytes());
        bytes.push(0);
    }
    bytes
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1001::/app:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\n";

/// An image without a fault, to which each test adds one.
struct Image {
    tree: Tree,
    config: ImageConfig,
    layer: Changeset,
    build_stage: Option<&'static str>,
}

impl Image {
    fn sound() -> Image {
        let config = ImageConfig {
            created: None,
            author: None,
            platform: "linux/amd64".parse().unwrap(),
            config: RuntimeConfig {
                user: "1001:1001".to_owned(),
                entrypoint: vec!["app".to_owned()],
                working_dir: "/app".to_owned(),
                env: vec!["PATH=/bin:/usr/bin".to_owned()],
                ..RuntimeConfig::default()
            },
            rootfs: serde_json::from_str(r#"{"type":"layers","diff_ids":[]}"#).unwrap(),
            history: Vec::new(),
            other: Default::default(),
        };
        let mut image = Image {
            tree: Tree::new(),
            config,
            layer: Changeset::new(),
            build_stage: None,
        };
        image.put("etc/passwd", Entry::file(PASSWD, 0o644));
        image.put("etc/group", Entry::file(GROUP, 0o644));
        image.put("usr/bin/app", Entry::file(program(), 0o755));
        image.put("app", Entry::directory(0o755));
        image
    }

    fn put(&mut self, text: &str, entry: Entry) {
        let mut changes = Changeset::new();
        changes.put(path(text), entry);
        self.tree.apply(&changes).unwrap();
        self.layer.merge(changes);
    }

    fn check(&self, allowed: &Allowed) -> CheckReport {
        let layers = [LayerOrigin {
            title: "copy . → /",
            changes: &self.layer,
        }];
        let subject = Subject {
            tree: &self.tree,
            config: &self.config,
            layers: &layers,
            build_stage: self.build_stage,
        };
        check(subject, &InMemory, allowed).unwrap()
    }

    /// Codes and paths of all findings.
    fn findings(&self) -> Vec<String> {
        let shown = |finding: &Finding| match &finding.path {
            Some(path) => format!("{} {path}", finding.code),
            None => finding.code.to_string(),
        };
        let report = self.check(&Allowed::default());
        report.findings.iter().map(shown).collect()
    }
}

/// What is found in a sound image to which `file` is added.
fn with_file(text: &str, bytes: impl Into<Vec<u8>>) -> Vec<String> {
    let mut image = Image::sound();
    image.put(text, Entry::file(bytes, 0o644));
    image.findings()
}

#[test]
fn a_sound_image_has_no_findings() {
    assert_eq!(Image::sound().findings(), [] as [&str; 0]);
}

#[test]
fn users() {
    for (user, found) in [
        ("", vec!["BW001"]),
        ("0", vec!["BW001"]),
        ("root", vec!["BW001"]),
        ("0:1001", vec!["BW001"]),
        (":1001", vec!["BW001"]),
        ("1001", vec![]),
        ("1001:0", vec![]),
        ("app", vec!["BW017"]),
        ("app:wheel", vec!["BW017"]),
        ("app:nobody", vec!["BW015", "BW017"]),
        ("nobody", vec!["BW015"]),
        ("4242", vec!["BW016"]),
    ] {
        let mut image = Image::sound();
        image.config.config.user = user.to_owned();
        assert_eq!(image.findings(), found, "{user:?}");
    }
}

#[test]
fn a_build_stage_below() {
    let mut image = Image::sound();
    image.build_stage = Some("build");
    assert_eq!(image.findings(), ["BW002"]);
}

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n";

#[test]
fn private_keys() {
    let bundle = format!("Bag Attributes\n  x\n-----BEGIN CERTIFICATE-----\nMIIB\n{PEM}");
    for (name, bytes) in [
        ("etc/ssl/key.pem", PEM),
        ("srv/anything", &PEM.replace('\n', "\r\n")),
        ("srv/bundle", &bundle),
        ("srv/openssh", &PEM.replace("PRIVATE", "OPENSSH PRIVATE")),
        (
            "srv/old",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
        ),
        ("srv/pgp", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n"),
        ("srv/putty", "PuTTY-User-Key-File-3: ssh-ed25519\n"),
        ("srv/age", "# created\nAGE-SECRET-KEY-1QQQ\n"),
        ("root/.ssh/id_ed25519", "locked away\n"),
        ("srv/store.p12", "0\u{1}..."),
    ] {
        assert_eq!(with_file(name, bytes), [format!("BW003 /{name}")]);
    }
    for (name, bytes) in [
        ("srv/public.pem", PEM.replace("PRIVATE", "PUBLIC")),
        ("srv/id_rsa.pub", "ssh-rsa AAAA".to_owned()),
        ("srv/code.js", format!("const k = `{PEM}`")),
        (
            "srv/docs.md",
            "-----BEGIN PRIVATE KEY-----\n...\n".to_owned(),
        ),
        ("srv/notes.p12", "remember the milk".to_owned()),
        ("srv/id_rsa", String::new()),
        ("srv/large", format!("{PEM}{}", " ".repeat(300_000))),
    ] {
        assert_eq!(with_file(name, bytes), [] as [&str; 0], "{name}");
    }
}

#[test]
fn credentials() {
    for (name, bytes) in [
        ("root/.npmrc", "//registry.npmjs.org/:_authToken=npm_abc\n"),
        ("app/.npmrc", "_auth = dXNlcg==\n"),
        (
            "etc/pip.conf",
            "[global]\nindex-url = https://u:secret@pypi.example.com/simple\n",
        ),
        (
            "root/.pypirc",
            "[pypi]\nusername = __token__\npassword = pypi-abc\n",
        ),
        (
            "root/.netrc",
            "machine example.com login u password hunter2\n",
        ),
        (
            "root/.docker/config.json",
            "{\"auths\": {\"x\": {\"auth\": \"dTpw\"}}}",
        ),
        ("root/.git-credentials", "https://u:ghp_abc@github.com\n"),
        ("srv/.git/config", "url = https://x:tok@github.com/a/b\n"),
        (
            "root/.aws/credentials",
            "[default]\naws_secret_access_key = abc\n",
        ),
        (
            "root/.config/gcloud/application_default_credentials.json",
            "{}",
        ),
        (
            "srv/sa.json",
            "{\"type\": \"service_account\", \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMII\"}",
        ),
        ("root/.azure/msal_token_cache.json", "{}"),
        ("root/.kube/config", "users:\n- user:\n    token: abc\n"),
        (
            "root/.cargo/credentials.toml",
            "[registry]\ntoken = \"abc\"\n",
        ),
        (
            "root/.gem/credentials",
            "---\n:rubygems_api_key: rubygems_abc\n",
        ),
        ("root/.m2/settings.xml", "<password>abc</password>"),
    ] {
        assert_eq!(with_file(name, bytes), [format!("BW004 /{name}")]);
    }
    for (name, bytes) in [
        (
            "root/.npmrc",
            "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nregistry=x\n",
        ),
        ("srv/.npmrc", "# _authToken=abc\nalways-auth=true\n"),
        (
            "etc/pip.conf",
            "index-url = https://pypi.example.com/simple\n",
        ),
        ("root/.pypirc", "[pypi]\npassword =\n"),
        (
            "root/.docker/config.json",
            "{\"credsStore\": \"desktop\", \"auths\": {\"x\": {}}}",
        ),
        ("root/.kube/config", "token: \n"),
        ("root/.aws/config", "[default]\nregion = eu-central-1\n"),
        (
            "root/.m2/settings.xml",
            "<password>${env.PASSWORD}</password>",
        ),
        ("srv/config.json", "{\"auth\": \"abc\"}"),
        ("srv/mynpmrc", "_authToken=abc"),
        ("srv/package.json", "{\"type\": \"module\"}"),
    ] {
        assert_eq!(with_file(name, bytes), [] as [&str; 0], "{name}");
    }
}

#[test]
fn keys_for_tests() {
    for name in [
        "usr/lib/python3.11/test/keycert.pem",
        "srv/tests/data/a.json",
    ] {
        let account =
            r#"{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\n"}"#;
        let bytes = format!("{account}\n{PEM}");
        assert_eq!(with_file(name, bytes), [format!("BW022 /{name}")]);
    }
    assert_eq!(
        with_file("srv/contest/a.pem", PEM),
        ["BW003 /srv/contest/a.pem"]
    );
    let npmrc = with_file("srv/tests/.npmrc", "_authToken=abc");
    assert_eq!(npmrc, ["BW004 /srv/tests/.npmrc"]);
}

#[test]
fn environment_files() {
    for name in [".env", ".env.production"] {
        assert_eq!(
            with_file(&format!("app/{name}"), "A=1"),
            [format!("BW005 /app/{name}")]
        );
    }
    for name in [".env.example", ".environment", "env", ".envrc.sample"] {
        assert_eq!(
            with_file(&format!("app/{name}"), "A=1"),
            [] as [&str; 0],
            "{name}"
        );
    }
}

#[test]
fn caches_of_package_managers() {
    for (file, directory) in [
        ("var/lib/apt/lists/deb.example_dists", "/var/lib/apt/lists"),
        ("var/cache/apt/archives/x.deb", "/var/cache/apt"),
        ("var/cache/apk/APKINDEX.tar.gz", "/var/cache/apk"),
        ("root/.npm/_cacache/index/a", "/root/.npm/_cacache"),
        ("root/.cache/pip/http/a", "/root/.cache/pip"),
        (
            "usr/local/share/.cache/yarn/v6/a",
            "/usr/local/share/.cache",
        ),
        ("usr/local/cargo/registry/a", "/usr/local/cargo/registry"),
        ("home/app/.cargo/registry/a", "/home/app/.cargo/registry"),
        ("root/.cache/go-build/a", "/root/.cache/go-build"),
    ] {
        assert_eq!(with_file(file, "x"), [format!("BW006 {directory}")]);
    }
    for file in [
        "var/lib/apt/lists/lock",
        "var/lib/apt/extended_states",
        "app/cache/pip/a",
    ] {
        assert_eq!(with_file(file, "x"), [] as [&str; 0], "{file}");
    }
    assert_eq!(with_file("var/lib/apt/lists/empty", ""), [] as [&str; 0]);
}

#[test]
fn a_cache_is_one_finding_with_its_bytes_and_its_layer() {
    let mut image = Image::sound();
    image.put("usr/local/share/.cache/yarn/a", Entry::file("12345", 0o644));
    image.put("usr/local/share/.cache/yarn/b", Entry::file("123", 0o644));
    let report = image.check(&Allowed::default());
    let [cache] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert_eq!((cache.files, cache.bytes), (2, 8));
    assert_eq!(cache.layer.as_ref().map(|layer| layer.number), Some(1));
}

#[test]
fn histories() {
    assert_eq!(with_file("app/.git/HEAD", "ref: x"), ["BW007 /app/.git"]);
    assert_eq!(with_file("app/.hg/store/a", "x"), ["BW007 /app/.hg"]);
    for file in [
        "app/.git",
        "app/.git/hooks/x",
        "app/.github/x",
        "app/x.git/HEAD",
    ] {
        assert_eq!(with_file(file, "x"), [] as [&str; 0], "{file}");
    }
}

#[test]
fn build_tools() {
    for name in [
        "usr/bin/gcc",
        "usr/bin/x86_64-linux-gnu-g++-12",
        "usr/local/bin/cargo",
        "usr/bin/clang-15",
    ] {
        let mut image = Image::sound();
        image.put(name, Entry::file(program(), 0o755));
        assert_eq!(image.findings(), [format!("BW008 /{name}")]);
    }
    assert_eq!(
        with_file("usr/include/stdio.h", "x"),
        ["BW008 /usr/include"]
    );
    for name in [
        "usr/bin/gcc",
        "app/bin/cargo",
        "usr/bin/gccgo-notes",
        "usr/bin/ld.so",
    ] {
        assert_eq!(with_file(name, program()), [] as [&str; 0], "{name}");
    }
    let mut linked = Image::sound();
    linked.put("usr/bin/cc", Entry::symlink(b"nowhere"));
    assert_eq!(linked.findings(), [] as [&str; 0]);
}

#[test]
fn what_everybody_may_write() {
    for (entry, is_found) in [
        (Entry::file("x", 0o666), true),
        (Entry::file("x", 0o664), false),
        (Entry::directory(0o777), true),
        (Entry::directory(0o1777), false),
        (Entry::symlink(b"x"), false),
        (Entry::new(Node::CharDevice(1, 3), 0o666), false),
    ] {
        let mut image = Image::sound();
        image.put("srv/x", entry);
        assert_eq!(!image.findings().is_empty(), is_found);
    }
}

#[test]
fn an_open_directory_counts_what_is_open_in_it() {
    let mut image = Image::sound();
    image.put("srv", Entry::directory(0o777));
    image.put("srv/a", Entry::file("12345", 0o666));
    image.put("srv/b", Entry::file("123", 0o644));
    image.put("srv2", Entry::file("x", 0o666));
    assert_eq!(image.findings(), ["BW009 /srv", "BW009 /srv2"]);
    let report = image.check(&Allowed::default());
    assert_eq!((report.findings[0].files, report.findings[0].bytes), (1, 5));
}

#[test]
fn programs_with_more_rights_than_their_callers() {
    let capable = Entry {
        xattrs: Xattrs::from_iter([(b"security.capability"[..].into(), b"x"[..].into())]),
        ..Entry::file(program(), 0o755)
    };
    for (entry, is_found) in [
        (Entry::file("x", 0o4755), true),
        (Entry::file("x", 0o2755), true),
        (capable, true),
        (Entry::file("x", 0o4644), false),
        (Entry::directory(0o2755), false),
    ] {
        let mut image = Image::sound();
        image.put("usr/bin/su", entry);
        let found = image.findings();
        assert_eq!(found == ["BW010 /usr/bin/su"], is_found, "{found:?}");
    }
}

/// An image whose entry point is `words`, with further entries.
fn started(words: &[&str], entries: &[(&str, Entry)]) -> Vec<String> {
    let mut image = Image::sound();
    image.config.config.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
    for (text, entry) in entries {
        image.put(text, entry.clone());
    }
    image.findings()
}

#[test]
fn entry_points_are_found_as_a_runtime_does() {
    let run = || Entry::file(program(), 0o755);
    for words in [
        &["app"][..],
        &["/usr/bin/app"],
        &["../usr/bin/app"],
        &["/bin/../usr/bin/app"],
    ] {
        assert_eq!(started(words, &[]), [] as [&str; 0], "{words:?}");
    }
    assert_eq!(started(&["./run"], &[("app/run", run())]), [] as [&str; 0]);
    assert_eq!(
        started(&["/l"], &[("l", Entry::symlink(b"/usr/bin/app"))]),
        [] as [&str; 0]
    );
    assert_eq!(started(&["nothing"], &[]), ["BW011"]);
    assert_eq!(started(&["/l"], &[("l", Entry::symlink(b"l"))]), ["BW011"]);
    assert_eq!(started(&["sbin"], &[("sbin/sbin", run())]), ["BW011"]);
    assert_eq!(started(&[], &[]), ["BW020"]);
}

#[test]
fn entry_points_that_the_user_cannot_execute() {
    let owned = |mode, uid, gid| Entry {
        uid,
        gid,
        ..Entry::file(program(), mode)
    };
    for (entry, is_found) in [
        (owned(0o644, 0, 0), true),
        (owned(0o744, 0, 0), true),
        (owned(0o700, 1001, 0), false),
        (owned(0o070, 1001, 1001), true),
        (owned(0o750, 0, 1001), false),
        (owned(0o750, 0, 10), true),
        (Entry::directory(0o755), true),
    ] {
        let found = started(&["/run"], &[("run", entry)]);
        assert_eq!(found == ["BW012 /run"], is_found, "{found:?}");
    }
    let private = [
        ("d", Entry::directory(0o700)),
        ("d/run", owned(0o755, 0, 0)),
    ];
    assert_eq!(started(&["/d/run"], &private), ["BW012 /d/run"]);
    // The first of two names on PATH cannot run, the second can.
    assert_eq!(
        started(&["app"], &[("bin/app", owned(0o644, 0, 0))]),
        [] as [&str; 0]
    );
}

#[test]
fn groups_of_the_user_count_where_no_group_is_named() {
    for (user, found) in [("1001", vec![]), ("1001:1001", vec!["BW012 /run"])] {
        let mut image = Image::sound();
        image.config.config.user = user.to_owned();
        image.config.config.entrypoint = vec!["/run".to_owned()];
        image.put(
            "run",
            Entry {
                gid: 10,
                ..Entry::file(program(), 0o750)
            },
        );
        assert_eq!(image.findings(), found);
    }
}

#[test]
fn entry_points_that_cannot_be_loaded() {
    for (bytes, found) in [
        (b"#!/usr/bin/app\n".to_vec(), vec![]),
        (b"#! /usr/bin/env -S app --x\n".to_vec(), vec!["BW013 /run"]),
        (b"#!/bin/bash\n".to_vec(), vec!["BW013 /run"]),
        (b"#!/usr/bin/app\r\n".to_vec(), vec!["BW013 /run"]),
        (b"#!\n".to_vec(), vec!["BW013 /run"]),
        (b"echo hello\n".to_vec(), vec!["BW013 /run"]),
        (Vec::new(), vec!["BW013 /run"]),
        (elf(62, Some("/lib/ld.so")), vec!["BW013 /run"]),
        (elf(62, Some("/usr/bin/app")), vec![]),
        (elf(3, None), vec![]),
        (elf(183, None), vec!["BW021 /run"]),
        (b"\x7fELF".to_vec(), vec![]),
        (elf(62, None)[..30].to_vec(), vec![]),
    ] {
        let entry = Entry::file(bytes.clone(), 0o755);
        assert_eq!(
            started(&["/run"], &[("run", entry)]),
            found,
            "{}",
            bytes.escape_ascii()
        );
    }
    let unreadable = Entry::file("#!/usr/bin/app\n", 0o711);
    assert_eq!(started(&["/run"], &[("run", unreadable)]), ["BW013 /run"]);
}

/// Beginnings that make a rule read on.
const STARTS: [&[u8]; 6] = [
    b"#!",
    b"\x7fELF\x02\x01",
    b"\x7fELF\x01\x02",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"_auth",
    b"password://u:",
];

proptest! {
    /// Whatever a hostile image holds is a finding or nothing.
    #[test]
    fn programs_and_secrets_of_any_bytes_do_no_harm(
        start in proptest::sample::select(&STARTS[..]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        name in "(a/)?(run|\\.npmrc|\\.netrc|pip\\.conf|a\\.json|a\\.p12)",
    ) {
        let bytes = [start, &rest].concat();
        let words = [format!("/{name}")];
        started(&[words[0].as_str()], &[(&name, Entry::file(bytes, 0o755))]);
    }

    #[test]
    fn configs_of_any_words_do_no_harm(
        user in "\\PC{0,12}", word in "\\PC{0,12}", directory in "\\PC{0,12}", port in "\\PC{0,6}",
    ) {
        let mut image = Image::sound();
        let config = &mut image.config.config;
        config.user = user;
        config.entrypoint = vec![word.clone(), word.clone()];
        config.working_dir = directory;
        config.exposed_ports.insert(port);
        config.healthcheck = Some(Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), word],
            ..Healthcheck::default()
        });
        image.findings();
    }
}

#[test]
fn env_finds_its_program_on_the_path() {
    let env = ("usr/bin/env", Entry::file(program(), 0o755));
    let script = |line: &str| ("run", Entry::file(line, 0o755));
    assert_eq!(
        started(&["/run"], &[env.clone(), script("#!/usr/bin/env app\n")]),
        [] as [&str; 0]
    );
    assert_eq!(
        started(&["/run"], &[env, script("#!/usr/bin/env node\n")]),
        ["BW013 /run"]
    );
}

#[test]
fn wrappers_run_the_program_behind_them() {
    let tini = [("usr/bin/tini", Entry::file(program(), 0o755))];
    for (words, found) in [
        (&["tini", "--", "app"][..], vec![]),
        (&["tini", "--", "node"], vec!["BW011"]),
        (&["tini", "-s", "1", "--", "node"], vec!["BW011"]),
        (&["tini", "node"], vec!["BW011"]),
        (&["tini", "-p", "SIGTERM", "node"], vec![]),
        (&["tini", "--"], vec![]),
        (&["app", "node"], vec![]),
    ] {
        assert_eq!(started(words, &tini), found, "{words:?}");
    }
}

#[test]
fn working_directories() {
    for (user, directory, found) in [
        ("1001", "/app", vec![]),
        ("1001", "", vec![]),
        ("1001", "/missing", vec!["BW014"]),
        ("1001", "/etc/passwd", vec!["BW014 /etc/passwd"]),
        ("1001", "/closed", vec!["BW014 /closed"]),
        ("0", "/missing", vec!["BW001"]),
    ] {
        let mut image = Image::sound();
        image.config.config.user = user.to_owned();
        image.config.config.working_dir = directory.to_owned();
        image.put("closed", Entry::directory(0o700));
        assert_eq!(image.findings(), found, "{user} {directory}");
    }
}

#[test]
fn health_checks() {
    for (test, is_found) in [
        (&["CMD", "app", "--health"][..], false),
        (&["CMD", "curl", "-f", "x"], true),
        (&["CMD-SHELL", "app || exit 1"], true),
        (&["NONE"], false),
        (&[], false),
    ] {
        let mut image = Image::sound();
        image.config.config.healthcheck = Some(Healthcheck {
            test: test.iter().map(|&word| word.to_owned()).collect(),
            ..Healthcheck::default()
        });
        assert_eq!(image.findings() == ["BW018"], is_found, "{test:?}");
        image.put("bin/sh", Entry::file(program(), 0o755));
        let only_the_shell_was_missing = test.first() == Some(&"CMD-SHELL");
        let is_found = is_found && !only_the_shell_was_missing;
        assert_eq!(
            image.findings() == ["BW018"],
            is_found,
            "{test:?} with a shell"
        );
    }
}

#[test]
fn ports() {
    for (user, port, found) in [
        ("1001", "80/tcp", vec!["BW019"]),
        ("1001", "8080/tcp", vec![]),
        ("1001", "1024", vec![]),
        ("0", "80/tcp", vec!["BW001"]),
    ] {
        let mut image = Image::sound();
        image.config.config.user = user.to_owned();
        image.config.config.exposed_ports.insert(port.to_owned());
        assert_eq!(image.findings(), found, "{user} {port}");
    }
}

#[test]
fn what_is_allowed_is_counted_and_not_reported() {
    let mut image = Image::sound();
    image.config.config.user = String::new();
    image.put("app/.env", Entry::file("A=1", 0o644));
    let report = image.check(&Allowed::from_iter([Code::RootUser]));
    assert_eq!((report.findings.len(), report.allowed), (1, 1));
    assert!(!report.has_errors());
}

#[test]
fn the_json_keeps_its_fields() {
    let mut image = Image::sound();
    image.put("app/.env", Entry::file("A=1", 0o644));
    let json = serde_json::to_string(&image.check(&Allowed::default())).unwrap();
    assert_eq!(
        json,
        r#"{"findings":[{"code":"BW005","severity":"warning","message":"an environment file","path":"/app/.env","files":1,"bytes":3,"layer":{"number":1,"title":"copy . → /"},"remedy":"keep it out (.dockerignore, `exclude`) and pass the values at run time"}],"allowed":0}"#
    );
}

#[test]
fn a_store_reads_the_beginnings_of_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let blob = store.put_blob(b"0123456789").unwrap();
    let content = Content::Blob(crate::tree::BlobRange {
        blob,
        offset: 2,
        size: 5,
        digest: crate::oci::Digest::of(b"23456"),
    });
    assert_eq!(store.head(&content, 3).unwrap(), b"234");
    assert_eq!(store.head(&content, usize::MAX).unwrap(), b"23456");
    let missing = Content::Blob(crate::tree::BlobRange {
        blob: crate::oci::Digest::of(b"missing"),
        offset: 0,
        size: 1,
        digest: blob,
    });
    assert!(store.head(&missing, 1).is_err());
}
