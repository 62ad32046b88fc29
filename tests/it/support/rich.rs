//! A spec that uses nearly every word of the language, with its contexts and a base made by hand:
//! what tests build that are about builds as a whole. It needs no foreign tool.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::image_fixture::{Image, Layer};
use super::raw_tar::{Header, flag};
use super::tree_text;

/// The spec, as it lies in the folder that [`write`] fills.
pub(crate) const SPEC: &str = r##"format: 1
image: test/rich
tags: [v1]
args: {WORD: hello}
context: ctx
contexts: {shared: shared}
stages:
  tools:
    from: oci:base:v1
    steps:
      - {write: /opt/tool, text: "#!/bin/sh\n", mode: "0755"}
      - {mkdir: /opt/cache, mode: "1777"}
  app:
    from: oci:base:v1
    workdir: /srv/app
    users:
      - {name: app, uid: 1001, gid: 1001, home: /srv/app, shell: /sbin/nologin, groups: [staff]}
    steps:
      - {copy: src, to: /srv/app/src, owner: "app:app", mode: "u=rwX,go=rX", exclude: ["**/*.log"]}
      - {copy: [src/./deep/one.txt, conf], to: /srv/pivot/, parents: true}
      - {copy: bin, to: /usr/local/bin}
      - {copy: ., from: shared, to: /srv/shared/}
      - {copy: /opt, from: tools, to: /opt}
      - {copy: /etc/motd, from: "oci:base:v1", to: /srv/motd}
      - {copy: conf/plain.conf, to: /through/link/plain.conf}
      - {write: one, text: "${WORD} one\n", owner: app, layer: settings}
      - {write: two.conf, template: conf/two.tmpl, layer: settings}
      - {mkdir: /srv/app/data, owner: "app:staff", mode: "0750"}
      - {link: current, target: src/main.js}
      - {link: again, target: /srv/app/one, hard: true}
      - {remove: [/etc/motd, /usr/share/doc]}
      - {remove: /nothing, optional: true}
    config:
      user: app
      env: {MODE: production, PATH: "/opt:${env.PATH}"}
      entrypoint: [/opt/tool]
      cmd: ["--serve"]
      expose: [8080, 53/udp]
      stop_signal: SIGTERM
      labels: {org.opencontainers.image.title: rich}
      volumes: [/srv/app/data]
      healthcheck: {test: [/opt/tool, check], interval: 5s, retries: 2}
"##;

const CONTEXT: &str = r"
dir 0755 ctx/src/deep
file 0600 ctx/src/main.js console.log(1)\n
file 0644 ctx/src/deep/one.txt one\n
file 0644 ctx/src/deep/debug.log noise\n
link ctx/src/next -> deep/one.txt
file 0644 ctx/conf/plain.conf plain\n
file 0644 ctx/conf/two.tmpl word = ${WORD}\n
file 0644 ctx/conf/secret.key never\n
file 4755 ctx/bin/setuid run\n
hardlink ctx/bin/twin -> ctx/bin/setuid
sparse 0644 ctx/bin/hole 70000
file 0644 shared/a.txt a\n
file 0755 shared/b/c.sh c\n
dir 0700 shared/empty
file 0644 ctx/.dockerignore *.key\n**/*.key\n
";

/// Whether the names of a directory are made in the order of the text or the other way round,
/// which gives another order of `readdir` on most file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
}

/// Writes spec, contexts and base into the folder `root`.
pub(crate) fn write(root: &Path, order: Order) {
    let is_late = |line: &&str| line.trim_start().starts_with("hardlink");
    let lines: Vec<&str> = CONTEXT.lines().collect();
    let (late, mut early): (Vec<&str>, Vec<&str>) =
        lines.into_iter().partition(|line| is_late(line));
    if order == Order::Backward {
        early.reverse();
    }
    tree_text::write(root, &early.join("\n"));
    tree_text::write(root, &late.join("\n"));
    fs::write(root.join("boxwright.yaml"), SPEC).expect("write the spec");
    base().write_layout(&root.join("base"), "v1");
}

/// The base: accounts, a link to a directory, and things to be removed.
pub(crate) fn base() -> Image {
    let directory = |name: &str| Header::new(flag::DIRECTORY, name);
    let write = "write to memory";
    let system = Layer::gzip(|tar| {
        for name in [
            "etc/",
            "opt/",
            "srv/",
            "srv/real/",
            "through/",
            "usr/",
            "usr/share/",
            "usr/share/doc/",
        ] {
            tar.entry(directory(name)).expect(write);
        }
        let link = Header::new(flag::SYMLINK, "through/link");
        tar.entry(link.to("../srv/real")).expect(write);
        for (name, content) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", "root:x:0:\nstaff:x:50:\n"),
            ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
            ("etc/motd", "welcome\n"),
            ("usr/share/doc/readme", "read me\n"),
        ] {
            tar.file(Header::new(flag::FILE, name), content.as_bytes())
                .expect(write);
        }
        tar.raw(&[0; 1024]).expect(write);
    });
    Image {
        layers: vec![system],
        config: json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"], "Labels": {"of": "base"}}),
    }
}
