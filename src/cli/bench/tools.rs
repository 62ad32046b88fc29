//! The tools that a benchmark runs: Boxwright itself, and others by their own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxwright::build::{Dockerfile, Mirror};

use crate::cli::args::Peer;
use crate::cli::bench::measure::{self, Run};
use crate::cli::exit::Failure;

/// One tool with a place of its own for its cache and its output.
pub(crate) struct Tool {
    pub(crate) name: String,
    kind: Kind,
    scratch: PathBuf,
}

enum Kind {
    /// This program, with the arguments of its build.
    Boxwright {
        program: PathBuf,
        spec: PathBuf,
        arguments: Vec<String>,
    },
    Peer(Peer, Dockerfile),
}

impl Tool {
    pub(crate) fn boxwright(
        program: PathBuf,
        mirror: &Mirror,
        arguments: Vec<String>,
        scratch: PathBuf,
    ) -> Tool {
        Tool {
            name: "boxwright".to_owned(),
            kind: Kind::Boxwright {
                program,
                spec: mirror.spec_file.clone(),
                arguments,
            },
            scratch,
        }
    }

    /// A peer, if it is there and the build can be told to it; else why not.
    pub(crate) fn peer(peer: Peer, mirror: &Mirror, scratch: PathBuf) -> Result<Tool, String> {
        let name = peer.to_string();
        let dockerfile = mirror
            .dockerfile
            .clone()
            .map_err(|reason| format!("{name}: {reason}"))?;
        let probe = match peer {
            Peer::Docker => Command::new("docker").arg("info").output(),
            _ => Command::new(&name).arg("--version").output(),
        };
        match probe {
            Ok(output) if output.status.success() => Ok(Tool {
                name,
                kind: Kind::Peer(peer, dockerfile),
                scratch,
            }),
            Ok(_) => Err(format!("{name}: it does not answer")),
            Err(_) => Err(format!("{name}: it is not installed")),
        }
    }

    /// Whether it is another tool than Boxwright.
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Peer(..))
    }

    /// Whether a second build can be quicker than the first.
    pub(crate) fn has_cache(&self) -> bool {
        !matches!(self.kind, Kind::Peer(Peer::Umoci, _))
    }

    /// Throws away what the tool knows.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        let failed = |error| Failure::system(format!("clear {}", self.scratch.display()), &error);
        if let Kind::Peer(Peer::Buildah | Peer::Podman, _) = self.kind
            && self.scratch.exists()
        {
            // Its files may be mounted or belong to other ids.
            let mut reset = self.containers();
            reset.args(match self.kind {
                Kind::Peer(Peer::Podman, _) => &["rmi", "--all", "--force"][..],
                _ => &["rmi", "--all", "--force"],
            });
            let _ = reset.output();
        }
        if let Kind::Peer(Peer::Docker, _) = self.kind {
            let _ = Command::new("docker").args(["rmi", "-f", IMAGE]).output();
            let _ = Command::new("docker")
                .args(["builder", "prune", "-af"])
                .output();
        }
        if self.scratch.exists() {
            fs::remove_dir_all(&self.scratch).map_err(failed)?;
        }
        fs::create_dir_all(&self.scratch).map_err(failed)
    }

    /// Builds once; the output of the last build is in its place, as a user would have it.
    pub(crate) fn build(&self) -> Result<Run, Failure> {
        match &self.kind {
            Kind::Boxwright {
                program,
                spec,
                arguments,
            } => {
                let mut command = Command::new(program);
                command.arg("build").arg("-f").arg(spec).args(arguments);
                command.arg("--store").arg(self.scratch.join("store"));
                command
                    .arg("-o")
                    .arg(format!("oci:{}:bench", self.scratch.join("oci").display()));
                command.args(["--progress", "quiet", "--print", "json"]);
                measure::run(&mut command)
            }
            Kind::Peer(peer, dockerfile) => self.peer_build(*peer, dockerfile),
        }
    }

    fn peer_build(&self, peer: Peer, dockerfile: &Dockerfile) -> Result<Run, Failure> {
        let file = self.scratch.join("Dockerfile");
        fs::write(&file, &dockerfile.text)
            .map_err(|error| Failure::system(format!("write {}", file.display()), &error))?;
        let oci = format!("oci:{}:bench", self.scratch.join("oci").display());
        let steps: Vec<Command> = match peer {
            Peer::Buildah | Peer::Podman => {
                let (mut build, mut push) = (self.containers(), self.containers());
                build.args(["build", "--layers", "-q", "-t", IMAGE, "-f"]);
                build.arg(&file).arg(&dockerfile.context);
                push.args(["push", "-q", IMAGE, &oci]);
                vec![build, push]
            }
            Peer::Docker => {
                let (mut build, mut save) = (Command::new("docker"), Command::new("docker"));
                build.env("DOCKER_BUILDKIT", "1");
                build.args(["build", "-q", "-t", IMAGE, "-f"]);
                build.arg(&file).arg(&dockerfile.context);
                save.args(["save", "-o"])
                    .arg(self.scratch.join("image.tar"));
                save.arg(IMAGE);
                vec![build, save]
            }
            Peer::Umoci => self.umoci(dockerfile),
        };
        let mut sum = Run::default();
        for mut step in steps {
            let run = measure::run(&mut step)?;
            sum.wall += run.wall;
            sum.cpu += run.cpu;
            sum.peak = sum.peak.max(run.peak);
        }
        // What docker's daemon takes is not seen from here.
        if peer == Peer::Docker {
            sum.peak = None;
        }
        Ok(sum)
    }

    /// `umoci` keeps nothing: its layout is made anew for each build.
    fn umoci(&self, dockerfile: &Dockerfile) -> Vec<Command> {
        let layout = self.scratch.join("oci");
        let _ = fs::remove_dir_all(&layout);
        let image = format!("{}:bench", layout.display());
        let umoci = |arguments: &[&str]| {
            let mut command = Command::new("umoci");
            command.args(arguments);
            command
        };
        let mut steps = vec![
            umoci(&["init", "--layout", &layout.display().to_string()]),
            umoci(&["new", "--image", &image]),
        ];
        for (from, to) in &dockerfile.copies {
            let from = dockerfile.context.join(from.trim_start_matches('/'));
            let target = format!("/{}", to.trim_matches('/'));
            steps.push(umoci(&[
                "insert",
                "--image",
                &image,
                &from.display().to_string(),
                &target,
            ]));
        }
        steps
    }

    fn containers(&self) -> Command {
        let mut command = Command::new(&self.name);
        let below = |name: &str| self.scratch.join(name);
        command.arg("--root").arg(below("root"));
        command.arg("--runroot").arg(below("run"));
        command
    }
}

/// The name of the image for tools that want one.
const IMAGE: &str = "localhost/boxwright-bench:latest";

/// Where a path lies below the root of the copy, for people.
pub(crate) fn below<'a>(path: &'a Path, root: &Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}
