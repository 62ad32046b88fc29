//! Reports as people see them.

use super::*;
use crate::cli::terminal::plain;
use boxwright::explain::{
    Allowed, Contents, ImageFacts, LayerFacts, LayerOrigin, Subject, inspect,
};
use boxwright::oci::{Codec, Descriptor, Digest, ImageConfig, MediaType};
use boxwright::tree::{Changeset, Content, Entry, LayerPath, Tree};

struct InMemory;

impl Contents for InMemory {
    fn head(&self, _: &Content, _: usize) -> std::io::Result<Vec<u8>> {
        Err(std::io::Error::other(
            "all contents of these tests are in memory",
        ))
    }
}

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn layers() -> [Changeset; 2] {
    let mut lower = Changeset::new();
    lower.put(
        path("etc/passwd"),
        Entry::file("app:x:1001:1001::/app:/bin/sh\n", 0o644),
    );
    lower.put(
        path("usr/lib/libbig.so"),
        Entry::file(vec![1; 400_000], 0o644),
    );
    lower.put(
        path("usr/lib/libcopy.so"),
        Entry::file(vec![1; 400_000], 0o644),
    );
    lower.put(
        path("var/cache/apt/archives/curl.deb"),
        Entry::file(vec![2; 90_000], 0o644),
    );
    lower.put(path("usr/bin/su"), Entry::file(vec![3; 70_000], 0o4755));
    let mut upper = Changeset::new();
    upper.remove(path("var/cache/apt/archives/curl.deb"));
    upper.put(
        path("usr/lib/libbig.so"),
        Entry::file(vec![4; 400_001], 0o644),
    );
    upper.put(path("app/.env"), Entry::file("A=1", 0o644));
    upper.put(path("root/.ssh/id_ed25519"), Entry::file("x", 0o600));
    for number in 0..13 {
        let open = Entry::file("x", 0o666);
        upper.put(
            path(&format!(
                "app/a directory with a long name/and a file {number:02}"
            )),
            open,
        );
    }
    [lower, upper]
}

fn config() -> ImageConfig {
    serde_json::from_str(
        r#"{"os":"linux","architecture":"amd64","created":"1970-01-01T00:00:00Z",
        "config":{"User":"1001","WorkingDir":"/app","Entrypoint":["dumb-init","--"],"Cmd":["node","dist/server.js"],
        "Env":["PATH=/usr/bin:/bin","NODE_ENV=production"],"ExposedPorts":{"80/tcp":{}},
        "Labels":{"org.opencontainers.image.title":"auth"},
        "Healthcheck":{"Test":["CMD","curl","-f","http://localhost"]}},
        "rootfs":{"type":"layers","diff_ids":[]},
        "history":[{"created_by":"oci:base"},{"created_by":"copy . → /"}]}"#,
    )
    .unwrap()
}

#[test]
fn findings_are_grouped_by_code() {
    let (layers, config) = (layers(), config());
    let mut tree = Tree::new();
    layers.iter().for_each(|layer| tree.apply(layer).unwrap());
    let origins = [
        LayerOrigin {
            title: "oci:base",
            changes: &layers[0],
        },
        LayerOrigin {
            title: "copy . → /",
            changes: &layers[1],
        },
    ];
    let subject = Subject {
        tree: &tree,
        config: &config,
        layers: &origins,
        build_stage: Some("build"),
    };
    let allowed = Allowed::from_iter([boxwright::explain::Code::Privileged]);
    let report = boxwright::explain::check(subject, &InMemory, &allowed).unwrap();
    insta::assert_snapshot!(plain(&check(&report, 80)));
}

#[test]
fn nothing_found() {
    let report = CheckReport {
        findings: Vec::new(),
        allowed: 2,
    };
    assert_eq!(plain(&check(&report, 80)), "nothing found (2 allowed)\n");
}

#[test]
fn an_image_is_told_layer_by_layer() {
    let (layers, config) = (layers(), config());
    let blob = |name: &[u8], size| {
        Descriptor::new(MediaType::OciLayer(Codec::Gzip), Digest::of(name), size)
    };
    let descriptors = [blob(b"lower", 512_345), blob(b"upper", 1_234_567)];
    let facts = |index: usize| LayerFacts {
        descriptor: &descriptors[index],
        uncompressed: 2_000_000,
        changes: &layers[index],
    };
    let image = ImageFacts {
        names: vec!["docker.io/acme/auth:1.4.0".to_owned()],
        manifest: Digest::of(b"m"),
        image_id: Digest::of(b"c"),
        config: &config,
        layers: vec![facts(0), facts(1)],
    };
    let inspection = inspect(&image, 3).unwrap();
    insta::assert_snapshot!(plain(&super::inspection(&inspection, 80)));
}
