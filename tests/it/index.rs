//! `index`: images of one platform each become one of several, in files and in registries.

use serde_json::Value;

use crate::support::peers::{Skopeo, peer};
use crate::support::registry::RegistryServer;
use crate::support::sandbox::Sandbox;

/// A folder with an archive for each of two platforms.
fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file(
        "boxwright.yaml",
        "format: 1\nimage: test/index\nstages:\n  app:\n    from: scratch\n    allow: [root]\n    \
         steps:\n      - {write: /platform, text: '${TARGETPLATFORM}'}\n      - {copy: same, to: /}\n",
    );
    sandbox.file("same", "the same for all".repeat(10_000));
    for platform in ["amd64", "arm64"] {
        let output = format!("oci-archive:{platform}.tar");
        let platform = format!("linux/{platform}");
        let args = [
            "build",
            "--store",
            "store",
            "--platform",
            &platform,
            "-o",
            &output,
        ];
        sandbox.boxwright(args).ok();
    }
    sandbox
}

/// Platforms and digests of an index.
fn entries(index: &str) -> Vec<(String, String)> {
    let index: Value = serde_json::from_str(index).expect("JSON");
    let manifests = index["manifests"].as_array().expect("manifests");
    let entry = |entry: &Value| {
        let platform = &entry["platform"];
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&platform["architecture"]), text(&entry["digest"]))
    };
    manifests.iter().map(entry).collect()
}

#[test]
fn archives_become_the_image_that_one_build_would_make() {
    let sandbox = built();
    let both = [
        "build",
        "--store",
        "store",
        "--platform",
        "linux/amd64,linux/arm64",
    ];
    let both = both
        .iter()
        .chain(&["-o", "oci-archive:both.tar", "--print", "digest"]);
    let expected = sandbox.boxwright(both).ok().stdout;
    let joined = [
        "index",
        "amd64.tar",
        "arm64.tar",
        "-o",
        "oci-archive:joined.tar",
    ];
    let joined = joined
        .iter()
        .chain(&["--store", "other", "--print", "digest"]);
    let joined = sandbox.boxwright(joined).ok();
    assert_eq!(joined.stdout, expected);
    let bytes = |name: &str| std::fs::read(sandbox.path(name)).expect("read");
    // The names differ; blobs and documents do not.
    assert_eq!(
        bytes("joined.tar").len().div_ceil(10_240),
        bytes("both.tar").len().div_ceil(10_240)
    );
    let skopeo = peer!(Skopeo::start());
    let inspect = ["inspect", "--raw"].map(str::to_owned);
    let archive = format!("oci-archive:{}", sandbox.path("joined.tar").display());
    let ran = skopeo.run(inspect.iter().chain([&archive])).ok();
    let platforms: Vec<String> = entries(&ran.stdout)
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
}

#[test]
fn images_of_a_registry_are_joined_where_they_are() {
    let sandbox = built();
    let registry = peer!(RegistryServer::open());
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.address());
    for platform in ["amd64", "arm64"] {
        let archive = format!("{platform}.tar");
        sandbox
            .boxwright(["push", &archive, &name(platform), "--store", "store"])
            .ok();
    }
    let sources = ["amd64", "arm64"].map(|tag| format!("docker://{}", name(tag)));
    let output = format!("docker://{}", name("1.0"));
    let args = [
        "index",
        &sources[0],
        &sources[1],
        "-o",
        &output,
        "--print",
        "json",
    ];
    let args = args.iter().chain(&["--store", "empty"]);
    let ran = sandbox.boxwright(args).ok();
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let blobs = report["outputs"][0]["push"]["blobs"]
        .as_array()
        .expect("blobs");
    assert!(
        blobs.iter().all(|blob| blob["delivery"] == "present"),
        "{}",
        ran.stdout
    );
    // No layer came here for it.
    let here = std::fs::read_dir(sandbox.path("empty/blobs/sha256")).expect("list");
    let largest = here
        .map(|entry| entry.expect("list").metadata().expect("look").len())
        .max();
    assert!(largest.is_some_and(|size| size < 4_000), "{largest:?}");
    let skopeo = peer!(Skopeo::start());
    for architecture in ["amd64", "arm64"] {
        let flags = [
            "inspect",
            "--tls-verify=false",
            "--override-arch",
            architecture,
        ];
        let flags = flags.map(str::to_owned);
        let ran = skopeo.run(flags.iter().chain([&output])).ok();
        let found: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(found["Architecture"], architecture);
    }
    // To another repository the layers go, too.
    let copied = format!("{}/other/app:1.0", registry.address());
    sandbox
        .boxwright(["push", &output, &copied, "--store", "empty"])
        .ok();
    let digest = |name: &str| {
        let flags = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"].map(str::to_owned);
        let name = format!("docker://{name}");
        skopeo.run(flags.iter().chain([&name])).ok().stdout
    };
    assert_eq!(digest(&copied), digest(&name("1.0")));
}

#[test]
fn what_cannot_be_joined_is_told() {
    let sandbox = built();
    for (images, expected) in [
        (["amd64.tar", "amd64.tar"], "two images for linux/amd64"),
        (["amd64.tar", "missing.tar"], "missing.tar"),
        (
            ["amd64.tar", "boxwright.yaml"],
            "neither a layout nor an archive",
        ),
    ] {
        let args = ["index", "-o", "oci:out", "--store", "store"];
        let ran = sandbox.boxwright(args.iter().chain(&images));
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        assert!(!sandbox.path("out").exists());
    }
}
