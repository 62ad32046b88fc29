//! What the program builds from the contexts of `testdata/contexts` is taken by every loader: one
//! hybrid archive, handed to podman, docker, ctr, skopeo and umoci.
//!
//! The base is the busybox made by hand, given as a layout and as an archive in turn.

use std::fs;
use std::path::{Path, PathBuf};

use boxwright::transport::{validate_archive, validate_layout};

use crate::support::busybox;
use crate::support::image_fixture::Image;
use crate::support::image_reader::ReadImage;
use crate::support::listing::{Listing, Row};
use crate::support::nasty;
use crate::support::peers::{Containerd, Dockerd, Podman, Registry, Skopeo, Umoci, peer};
use crate::support::process::run;
use crate::support::sandbox::Sandbox;
use crate::support::source;

/// One context with what proves that its image is right, run by a shell in a container.
struct Application {
    folder: &'static str,
    /// The first name that its spec gives.
    name: &'static str,
    proof: &'static str,
    proven: &'static str,
}

const SITE: Application = Application {
    folder: "static-site",
    name: "docker.io/harbour/site:latest",
    proof: "httpd -c /etc/httpd.conf -h /srv/www -p 8080 && id -u && test ! -e /srv/www/drafts \
        && wget -q -O - http://127.0.0.1:8080/robots.txt | head -n 1 && pwd",
    proven: "1000\nUser-agent: *\n/srv/www\n",
};

const SERVICE: Application = Application {
    folder: "typescript-service",
    name: "docker.io/acme/quotes-service:1.4.0",
    proof: "id -un && cat build.json && test -f current && test ! -e .env && touch data/written \
        && stat -c '%U:%G %a' data dist/server.js",
    proven: "quotes\n{\"revision\":\"abc\"}quotes:quotes 750\nquotes:quotes 644\n",
};

/// How the base is handed over.
#[derive(Debug, Clone, Copy)]
enum BaseAs {
    Layout,
    OciArchive,
    DockerArchive,
}

/// Builds an application as a user would, into a hybrid archive and a layout; gives the archive.
fn built(
    sandbox: &Sandbox,
    base: &Image,
    app: &Application,
    how: BaseAs,
    more: &[&str],
) -> PathBuf {
    let base = match how {
        BaseAs::Layout => {
            base.write_layout(&sandbox.path("base"), "v1");
            format!("BASE=oci:{}:v1", sandbox.path("base").display())
        }
        BaseAs::OciArchive => {
            let set = base.oci_layout("v1");
            set.write_as_tar(&sandbox.path("base.tar"));
            format!("BASE=oci-archive:{}:v1", sandbox.path("base.tar").display())
        }
        BaseAs::DockerArchive => {
            let set = base.docker_archive("localhost/base:v1");
            set.write_as_tar(&sandbox.path("base-docker.tar"));
            format!(
                "BASE=docker-archive:{}",
                sandbox.path("base-docker.tar").display()
            )
        }
    };
    let context = source::root().join("testdata/contexts").join(app.folder);
    let context = context.to_str().expect("a path that is text");
    let mut args = vec![
        "build",
        context,
        "--arg",
        &base,
        "-o",
        "oci-archive:app.tar",
        "-o",
        "oci:lay",
    ];
    if app.folder == SERVICE.folder {
        args.extend(["--arg", "REVISION=abc"]);
    }
    args.extend(more);
    sandbox.boxwright(args).ok();
    sound(sandbox);
    sandbox.path("app.tar")
}

/// The nasty tree, written and built into an archive.
fn built_nasty(sandbox: &Sandbox) -> PathBuf {
    nasty::write(&sandbox.path("context"));
    sandbox
        .boxwright([
            "build",
            "context",
            "-o",
            "oci-archive:app.tar",
            "-o",
            "oci:lay",
        ])
        .ok();
    sound(sandbox);
    sandbox.path("app.tar")
}

/// Both outputs pass the judge of images and a reader of our tests' own, and are one image.
#[track_caller]
fn sound(sandbox: &Sandbox) {
    let (archive, layout) = (sandbox.path("app.tar"), sandbox.path("lay"));
    for found in [validate_archive(&archive), validate_layout(&layout)] {
        let found = found.expect("a layout");
        assert!(found.is_empty(), "{found:#?}");
    }
    assert_eq!(ReadImage::at(&archive).digest, digest_in_layout(&layout));
}

fn digest_in_layout(layout: &Path) -> String {
    let index = fs::read(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str();
    digest.expect("a digest").to_owned()
}

#[test]
fn a_base_makes_the_same_image_in_every_form() {
    let base = peer!(busybox::base());
    for app in [&SITE, &SERVICE] {
        let sandbox = Sandbox::new();
        let digests = [BaseAs::Layout, BaseAs::OciArchive].map(|how| {
            let _ = fs::remove_dir_all(sandbox.path("lay"));
            ReadImage::at(&built(&sandbox, base, app, how, &[])).digest
        });
        assert_eq!(digests[0], digests[1], "{}", app.folder);
        // A docker archive holds its layers uncompressed, so other bytes; what they unpack to is
        // the same.
        let oci = ReadImage::at(&sandbox.path("app.tar"));
        let _ = fs::remove_dir_all(sandbox.path("lay"));
        let docker = ReadImage::at(&built(&sandbox, base, app, BaseAs::DockerArchive, &[]));
        assert_eq!(docker.config["rootfs"], oci.config["rootfs"]);
        assert_eq!(docker.listings(), oci.listings());
    }
}

#[test]
fn podman_loads_and_runs_what_is_built() {
    let (base, podman) = (peer!(busybox::base()), peer!(Podman::start()));
    for (app, how) in [(&SITE, BaseAs::Layout), (&SERVICE, BaseAs::OciArchive)] {
        let sandbox = Sandbox::new();
        let image = podman.load(&built(&sandbox, base, app, how, &[]));
        assert_eq!(image, app.name);
        let flags = ["run", "--rm", "--network", "none", "--entrypoint", "sh"];
        let ran = podman
            .run(flags.iter().chain(&[app.name, "-c", app.proof]))
            .ok();
        assert_eq!(ran.stdout, app.proven);
    }
    let sandbox = Sandbox::new();
    podman.load(&built_nasty(&sandbox));
}

#[test]
fn docker_loads_and_runs_what_is_built() {
    let (base, docker) = (peer!(busybox::base()), peer!(Dockerd::shared()));
    for (app, how) in [(&SITE, BaseAs::OciArchive), (&SERVICE, BaseAs::Layout)] {
        let sandbox = Sandbox::new();
        let image = docker.load(&built(&sandbox, base, app, how, &[]));
        assert!(app.name.ends_with(&image), "{image}");
        let flags = ["run", "--rm", "--network", "none", "--entrypoint", "sh"];
        let ran = docker
            .run(flags.iter().chain(&[&image[..], "-c", app.proof]))
            .ok();
        assert_eq!(ran.stdout, app.proven);
    }
}

#[test]
fn docker_loads_every_nasty_name() {
    let docker = peer!(Dockerd::shared());
    let sandbox = Sandbox::new();
    let image = docker.load(&built_nasty(&sandbox));
    let archive = sandbox.path("saved.tar");
    docker
        .run(["save", "-o", archive.to_str().expect("text"), &image])
        .ok();
    assert!(fs::metadata(archive).expect("an archive").len() > 0);
}

#[test]
fn containerd_imports_and_runs_what_is_built() {
    let (base, containerd) = (peer!(busybox::base()), peer!(Containerd::shared()));
    for (app, how) in [(&SITE, BaseAs::Layout), (&SERVICE, BaseAs::OciArchive)] {
        let sandbox = Sandbox::new();
        let names = containerd.import(&built(&sandbox, base, app, how, &[]));
        assert!(names.contains(&app.name.to_owned()), "{names:?}");
        // ctr gives containers the network of the machine, where ports may be taken.
        let command = ["sh", "-c", "id -u; pwd"];
        let expected = match app.folder == SITE.folder {
            true => "1000\n/srv/www\n",
            false => "1001\n/app\n",
        };
        assert_eq!(
            containerd.run_image(app.name, &command).ok().stdout,
            expected
        );
    }
    containerd.import(&built_nasty(&Sandbox::new()));
}

#[test]
fn skopeo_copies_what_is_built_unchanged() {
    let (base, skopeo) = (peer!(busybox::base()), peer!(Skopeo::start()));
    let registry = peer!(Registry::start());
    for (number, app) in [Some(&SITE), Some(&SERVICE), None].into_iter().enumerate() {
        let sandbox = Sandbox::new();
        let archive = match app {
            Some(app) => built(&sandbox, base, app, BaseAs::Layout, &[]),
            None => built_nasty(&sandbox),
        };
        let image = ReadImage::at(&archive);
        let from = format!("oci-archive:{}", archive.display());
        let remote = format!("docker://{}/built:{number}", registry.address());
        skopeo.copy(&from, &remote).ok();
        assert_eq!(skopeo.inspect(&remote)["Digest"], image.digest.as_str());
        let folder = sandbox.path("folder");
        skopeo
            .copy(&from, &format!("dir:{}", folder.display()))
            .ok();
        let manifest = fs::read(folder.join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest, image.manifest);
    }
}

/// The archive's own layout, unpacked by umoci: `ref` is the name in it.
fn unpacked(umoci: &Umoci, sandbox: &Sandbox, archive: &Path) -> PathBuf {
    let layout = sandbox.path("from-archive");
    fs::create_dir(&layout).expect("a folder");
    let mut tar = sandbox.command("tar");
    run(tar.arg("-xf").arg(archive).arg("-C").arg(&layout)).ok();
    let index = fs::read(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    umoci.unpack(
        &layout,
        name.as_str().expect("a name"),
        &sandbox.path("bundle"),
    )
}

/// The rows below `folder`, with paths as they are seen from there.
fn below(listing: &Listing, folder: &str) -> Vec<Row> {
    let prefix = format!("{folder}/");
    let rows = listing.rows.iter();
    rows.filter_map(|row| {
        let path = row.path.strip_prefix(prefix.as_bytes())?.to_vec();
        Some(Row {
            path,
            ..row.clone()
        })
    })
    .collect()
}

#[test]
fn umoci_unpacks_the_site_as_it_is_in_the_context() {
    let (base, umoci) = (peer!(busybox::base()), peer!(Umoci::start()));
    let sandbox = Sandbox::new();
    let root = unpacked(
        &umoci,
        &sandbox,
        &built(&sandbox, base, &SITE, BaseAs::Layout, &[]),
    );
    let context = source::root().join("testdata/contexts/static-site");
    let plain = |listing: Listing| listing.without_times().without_owners();
    let served = below(&plain(Listing::of_directory(&root)), "srv/www");
    let mut expected = plain(Listing::of_directory(&context)).rows;
    expected.retain(|row| {
        let first = row
            .path
            .split(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        [
            &b"index.html"[..],
            b"404.html",
            b"robots.txt",
            b"css",
            b"img",
            b"about",
            b".well-known",
        ]
        .contains(&first)
    });
    for row in &mut expected {
        row.mode = match row.kind {
            "dir" => 0o755,
            "link" => 0o777,
            _ => 0o644,
        };
    }
    assert_eq!(
        Listing { rows: served }.to_string(),
        Listing { rows: expected }.to_string()
    );
}

#[test]
fn umoci_unpacks_the_nasty_tree_as_it_was_written() {
    let umoci = peer!(Umoci::start());
    let sandbox = Sandbox::new();
    let root = unpacked(&umoci, &sandbox, &built_nasty(&sandbox));
    let plain = |path: &Path| Listing::of_directory(path).without_times().without_owners();
    let mut written = plain(&sandbox.path("context"));
    written.rows.retain(|row| row.path != b"boxwright.yaml");
    assert_eq!(plain(&root.join("nasty")).to_string(), written.to_string());
}

#[test]
fn docker_honours_the_health_check_of_the_default_archive() {
    let (base, docker) = (peer!(busybox::base()), peer!(Dockerd::shared()));
    let sandbox = Sandbox::new();
    let image = docker.load(&built(&sandbox, base, &SITE, BaseAs::Layout, &[]));
    let flags = [
        "run",
        "-d",
        "--network",
        "none",
        "--health-interval",
        "200ms",
    ];
    let id = docker.run(flags.iter().chain(&[&image[..]])).ok().stdout;
    let id = id.trim();
    let seen = docker.inspect(&image)["Config"]["Healthcheck"].clone();
    assert_eq!(seen["Test"][1], "wget");
    assert_eq!(seen["Interval"], 5_000_000_000_u64);
    let status = ["inspect", "-f", "{{.State.Health.Status}}", id];
    let is_healthy = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        docker.run(status).ok().stdout.trim() == "healthy"
    });
    docker.run(["rm", "-f", id]).ok();
    assert!(is_healthy, "the health check never succeeded");
}

#[test]
fn podman_honours_the_health_check_of_the_docker_format() {
    let (base, podman) = (peer!(busybox::base()), peer!(Podman::start()));
    let sandbox = Sandbox::new();
    let more = ["--format", "docker"];
    let image = podman.load(&built(&sandbox, base, &SITE, BaseAs::OciArchive, &more));
    assert_eq!(podman.healthcheck(&image)["Test"][1], "wget");
    let flags = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "site",
        "--health-interval",
        "disable",
    ];
    podman.run(flags.iter().chain(&[&image[..]])).ok();
    let is_healthy = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        podman.run(["healthcheck", "run", "site"]).code == 0
    });
    podman.run(["rm", "-f", "-t", "0", "site"]).ok();
    assert!(is_healthy, "the health check never succeeded");
}
