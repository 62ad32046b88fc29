//! What commands find mounted: caches, secrets, files of elsewhere, certificates.
//!
//! Everything mounted is in the command's key by what it is, never by where it lies or, for
//! secrets, by what it holds.

use std::path::PathBuf;

use crate::build::commands::Prepared;
use crate::build::error::BuildError;
use crate::build::stages::Workshop;
use crate::sandbox::{self, Caches, Hold, Job, Mount, MountKind, Secret, Writes};
use crate::spec::{self, AbsolutePath, Diagnostic, Diagnostics, SecretTarget, Sharing, Span};
use crate::tree::{Follow, LayerPath, Tree};

impl Workshop<'_> {
    /// Offers the certificates of the machine, where the tree itself might know fewer.
    pub(crate) fn certificates(&self, job: &mut Job) {
        let Some(bundle) = &self.request.commands.certificates else {
            return;
        };
        if job.network == sandbox::Network::None {
            return;
        }
        job.mounts.push(Mount {
            target: CERTIFICATES.to_owned(),
            kind: MountKind::Path {
                source: bundle.clone(),
                writes: Writes::Refused,
            },
        });
        for name in CERTIFICATE_VARIABLES {
            let value = Secret::new(CERTIFICATES.as_bytes());
            job.private_env.push((name.to_owned(), value));
        }
    }

    /// Adds one mount; gives its line in the key.
    pub(crate) fn mount<'a>(
        &self,
        prepared: &mut Prepared,
        mount: &spec::Spanned<spec::Mount>,
        binds: &mut impl Iterator<Item = &'a Tree>,
    ) -> Result<String, BuildError> {
        let workdir: AbsolutePath = prepared.job.workdir.parse().unwrap_or_default();
        let under = |path: &spec::ImagePath| path.under(&workdir).as_str().to_owned();
        let (target, kind, line) = match &mount.value {
            spec::Mount::Cache {
                name,
                target,
                sharing,
            } => {
                let target = under(&target.value);
                let source = self.cache(name.as_str(), *sharing, prepared)?;
                let line = format!("cache {} {target}", name.as_str());
                let writes = Writes::Kept;
                (target, MountKind::Path { source, writes }, line)
            }
            spec::Mount::Secret {
                id,
                target,
                required,
            } => return self.secret(prepared, mount.span, id.as_str(), target, *required),
            spec::Mount::Bind {
                source,
                target,
                writable,
                ..
            } => {
                let tree = binds.next().ok_or_else(|| {
                    let message = "this mount has nothing to take files from".to_owned();
                    self.wrong(mount.span, message, "name a source".to_owned())
                })?;
                let tree = self.part(tree, source)?;
                return self.bind(prepared, under(&target.value), tree, *writable);
            }
            spec::Mount::Tmpfs { target, size } => {
                let target = under(&target.value);
                let size = size.as_ref().map(|size| size.value.0);
                let line = format!("tmpfs {target} {size:?}");
                (target, MountKind::Tmpfs { size }, line)
            }
            spec::Mount::Ssh { id } => return self.agent(prepared, mount.span, id.as_str()),
        };
        prepared.job.mounts.push(Mount { target, kind });
        Ok(line)
    }

    /// A secret, as a file or a variable. Its bytes are in no key.
    fn secret(
        &self,
        prepared: &mut Prepared,
        span: Span,
        id: &str,
        target: &SecretTarget,
        is_required: bool,
    ) -> Result<String, BuildError> {
        let Some(secret) = self.request.commands.secrets.get(id) else {
            if is_required {
                let message = format!("the secret {id:?} is not given");
                let help =
                    format!("give it: --secret id={id},src=FILE or --secret id={id},env=NAME");
                return Err(self.wrong(span, message, help));
            }
            return Ok(format!("secret {id} absent"));
        };
        let secret = secret.clone();
        match target {
            SecretTarget::Variable(name) => {
                let variable = (name.value.clone(), secret);
                prepared.job.private_env.push(variable);
                Ok(format!("secret {id} variable {}", name.value))
            }
            SecretTarget::File(path) => {
                let target = path.value.as_str().to_owned();
                let line = format!("secret {id} {target}");
                let kind = MountKind::Secret {
                    content: secret,
                    mode: 0o400,
                };
                prepared.job.mounts.push(Mount { target, kind });
                Ok(line)
            }
        }
    }

    /// Files of a context, stage or image. Where they lie is known when the command runs.
    fn bind(
        &self,
        prepared: &mut Prepared,
        target: String,
        tree: Tree,
        is_writable: bool,
    ) -> Result<String, BuildError> {
        let digest = self.identify(&tree)?;
        let line = format!("bind {digest} {target} {is_writable}");
        let place = prepared.job.mounts.len();
        prepared.binds.push((place, tree, digest));
        let writes = match is_writable {
            true => Writes::Discarded,
            false => Writes::Refused,
        };
        let source = PathBuf::new();
        let kind = MountKind::Path { source, writes };
        prepared.job.mounts.push(Mount { target, kind });
        Ok(line)
    }

    /// The socket of an SSH agent.
    fn agent(&self, prepared: &mut Prepared, span: Span, id: &str) -> Result<String, BuildError> {
        let Some(socket) = self.request.commands.agents.get(id) else {
            let message = format!("the SSH agent {id:?} is not given");
            let help = format!("give it: --ssh {id}, or --ssh {id}=SOCKET");
            return Err(self.wrong(span, message, help));
        };
        let target = format!("/run/boxwright/ssh-{id}");
        let value = Secret::new(target.as_bytes());
        let variable = ("SSH_AUTH_SOCK".to_owned(), value);
        prepared.job.private_env.push(variable);
        let kind = MountKind::Path {
            source: socket.clone(),
            writes: Writes::Kept,
        };
        prepared.job.mounts.push(Mount { target, kind });
        Ok(format!("ssh {id}"))
    }

    fn wrong(&self, span: Span, message: String, help: String) -> BuildError {
        let diagnostic = Diagnostic::new(&self.plan.source, span, message).help(help);
        Diagnostics::from(diagnostic).into()
    }

    /// The part of a tree at a path, as a tree of its own.
    fn part(
        &self,
        tree: &Tree,
        source: &spec::Spanned<spec::ContextPath>,
    ) -> Result<Tree, BuildError> {
        let text = source.value.as_str();
        let found = tree.resolve(&LayerPath::root(), text.as_bytes(), Follow::Last);
        let path = found.ok().map(|found| found.path);
        let path = path.filter(|path| path.is_root() || tree.entry(path).is_some());
        let Some(path) = path else {
            let help = "name a file or directory of the source".to_owned();
            return Err(self.wrong(source.span, format!("{text:?} is not there"), help));
        };
        let is_file = tree.entry(&path).is_some_and(|entry| !entry.is_directory());
        if is_file {
            let help = "name the directory that holds it".to_owned();
            let message = format!("{text:?} is a file, and only directories can be mounted");
            return Err(self.wrong(source.span, message, help));
        }
        let mut part = Tree::new();
        for (below, entry) in tree.below(&path).skip(usize::from(!path.is_root())) {
            if let Some(below) = below.strip_prefix(&path).filter(|below| !below.is_root()) {
                part.insert(below, entry.clone());
            }
        }
        Ok(part)
    }

    /// The directory of a cache. Where two commands must not share it, this one waits for it, or
    /// gets one of its own.
    fn cache(
        &self,
        name: &str,
        sharing: Sharing,
        prepared: &mut Prepared,
    ) -> Result<PathBuf, BuildError> {
        let failed = || BuildError::cache(self.store.root());
        let caches = Caches::of(self.store.root()).map_err(failed())?;
        let mut name = name.to_owned();
        if sharing == Sharing::Private {
            let first = name.clone();
            let mut number = 0;
            while !caches.is_free(&name).map_err(failed())? {
                number += 1;
                name = format!("{first}.{number}");
            }
        }
        let path = caches.path(&name);
        caches.make(&name).map_err(BuildError::cache(&path))?;
        let hold = match sharing {
            Sharing::Shared => Hold::Shared,
            Sharing::Locked | Sharing::Private => Hold::Alone,
        };
        // A command may mount a cache twice, and must not wait for itself.
        let held = prepared.caches.entry(name).or_insert(hold);
        *held = hold.max(*held);
        Ok(path)
    }
}

/// Where the machine's certificates appear.
const CERTIFICATES: &str = "/run/boxwright/ca-certificates.crt";

/// The variables by which programs find certificates: OpenSSL and most, curl, git, Node, pip,
/// requests, Cargo.
const CERTIFICATE_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
];
