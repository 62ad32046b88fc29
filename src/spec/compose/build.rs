//! The `build:` of a service: what is built for it, from which spec, with which values.

use std::path::{Path, PathBuf};

use crate::oci::Platform;
use crate::spec::arguments::nearest;
use crate::spec::compose::reader::{Read, Reader};
use crate::spec::compose::services::Service;
use crate::spec::compose::tree::{Item, ItemValue, Place, as_build};
use crate::spec::compose::{ComposedImage, SecretPlace, SpecPlace};
use crate::spec::value::Name;

/// The key by which a compose file speaks to us.
pub(crate) const EXTENSION: &str = "x-boxwright";
/// Keys of `build` that are honoured.
const HONOURED: [&str; 10] = [
    "additional_contexts",
    "args",
    "context",
    "dockerfile",
    "no_cache",
    "platforms",
    "secrets",
    "ssh",
    "tags",
    "target",
];
/// Keys of `build` that change no image: they are passed over, and those that somebody may count
/// on are noted.
const WITHOUT_EFFECT: [(&str, &str); 9] = [
    (
        "cache_from",
        "caches are named on the command line: --cache-from",
    ),
    (
        "cache_to",
        "caches are named on the command line: --cache-to",
    ),
    ("entitlements", "commands have no such rights"),
    ("isolation", "commands run in Boxwright's own sandbox"),
    ("privileged", "commands have no such rights"),
    ("provenance", "no attestation is made"),
    ("sbom", "no attestation is made"),
    ("shm_size", "commands have a /dev/shm of the sandbox's size"),
    (
        "ulimits",
        "limits of commands are named on the command line: --memory, --pids",
    ),
];
/// Keys of `build` that would change the image and have no equal here.
const REFUSED: [(&str, &str); 3] = [
    (
        "dockerfile_inline",
        "write a boxwright.yaml, and name it: `x-boxwright: FILE`",
    ),
    (
        "extra_hosts",
        "let the commands of the spec not depend on it",
    ),
    (
        "labels",
        "write them into the spec, under `config: {labels: …}`",
    ),
];
/// Keys of `x-boxwright`.
const OF_EXTENSION: [&str; 4] = ["spec", "profile", "target", "args"];

/// What `x-boxwright` says.
#[derive(Default)]
struct Extension {
    spec: Option<Read>,
    profile: Option<Name>,
    target: Option<Name>,
    args: Vec<(String, String)>,
}

impl Reader<'_> {
    /// What is built for a service.
    pub(crate) fn image(&mut self, root: &Item, service: &Service<'_>) -> Option<ComposedImage> {
        let Service { name, place, item } = service;
        let empty = || Item::map(*place);
        let build = item.get("build").cloned().map_or_else(empty, as_build);
        if build.fields().is_none() {
            let message = format!("`build` is a folder or a map, not {}", build.kind());
            self.refuse(build.place, message, "write `build: FOLDER`");
            return None;
        }
        self.know_all_keys(&build);
        let extension = self.extension(item, &build)?;
        let context = self.context(&build);
        let spec = self.spec(service, &build, context.as_ref(), extension.spec.as_ref());
        let mut contexts = self.additional_contexts(&build);
        if let Some((context, _)) = context.filter(|_| extension.spec.is_some()) {
            let main: Name = "context".parse().expect("a word is a name");
            contexts.push((main, context));
        }
        let mut args = self.args(&build);
        args.retain(|(name, _)| !extension.args.iter().any(|(known, _)| known == name));
        args.extend(extension.args);
        let target = self.text_of(&build, "target", "`target`");
        let target = target.and_then(|target| self.parsed(&target));
        let image = self.text_of(item, "image", "`image`");
        let tags = build.get("tags").cloned();
        let tags = tags.map_or_else(Vec::new, |tags| self.texts(&tags, "`tags`"));
        let project = self.variable("COMPOSE_PROJECT_NAME");
        let names = self.image_names(name, *place, image.as_ref(), &tags, project.as_deref());
        let no_cache = build.get("no_cache").cloned();
        Some(ComposedImage {
            services: vec![(*name).to_owned()],
            target: extension.target.or(target),
            profile: extension.profile,
            args,
            contexts,
            platforms: self.platforms(item, &build),
            secrets: self.secrets(root, &build),
            agents: self.agents(&build),
            no_cache: no_cache.is_some_and(|no_cache| self.is_true(&no_cache, "`no_cache`")),
            names: names?,
            spec: spec?,
        })
    }

    /// Says what of `build` has no effect, and what cannot be done.
    fn know_all_keys(&mut self, build: &Item) {
        for field in build.fields().unwrap_or_default() {
            let key = field.key.as_str();
            let says = |value: &ItemValue| match value {
                ItemValue::Null => false,
                ItemValue::Text(text) => !matches!(text.as_str(), "" | "false" | "no" | "off"),
                ItemValue::List(items) => !items.is_empty(),
                ItemValue::Map(fields) => !fields.is_empty(),
            };
            let of = |table: &[(&str, &'static str)]| {
                let found = table.iter().find(|(known, _)| *known == key);
                found.map(|(_, text)| *text)
            };
            if !says(&field.value.value) || HONOURED.contains(&key) || key.starts_with("x-") {
                continue;
            }
            if let Some(why) = of(&WITHOUT_EFFECT) {
                self.note(field.place, &format!("`{key}` has no effect: {why}"));
            } else if let Some(help) = of(&REFUSED) {
                self.refuse(
                    field.place,
                    format!("`{key}` of `build` cannot be honoured"),
                    help,
                );
            } else if key == "network" {
                self.network(&field.value);
            } else if key != "pull" {
                let known = HONOURED.into_iter().chain(REFUSED.map(|(key, _)| key));
                let help = match nearest(key, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the keys that are honoured are {}", HONOURED.join(", ")),
                };
                self.refuse(field.place, format!("`build` has no key `{key}`"), &help);
            }
        }
    }

    /// Commands use the machine's network, unless the spec says otherwise.
    fn network(&mut self, item: &Item) {
        let Some(read) = self.text(item, "`network`") else {
            return;
        };
        if !matches!(read.text.as_str(), "host" | "default" | "") {
            let message = format!("`network: {}` of `build` cannot be honoured", read.text);
            let help = "commands use the machine's network; write `network: none` at those of the spec that shall have none";
            self.refuse(read.place, message, help);
        }
    }

    fn extension(&mut self, service: &Item, build: &Item) -> Option<Extension> {
        let item = match (service.get(EXTENSION), build.get(EXTENSION)) {
            (Some(outer), Some(inner)) => {
                let message = "`x-boxwright` is given twice, in the service and in its `build`";
                let problem = self.error(self.first_line(inner.place), message);
                let problem = match outer.place.file == inner.place.file {
                    true => problem.also(self.first_line(outer.place).span, "first given here"),
                    false => problem,
                };
                self.report(problem.help("keep one of the two"));
                return None;
            }
            (None, None) => return Some(Extension::default()),
            (Some(item), None) | (None, Some(item)) => item.clone(),
        };
        let Some(fields) = item.fields() else {
            let spec = Some(self.text(&item, "`x-boxwright`")?);
            return Some(Extension {
                spec,
                ..Extension::default()
            });
        };
        for field in fields {
            if !OF_EXTENSION.contains(&field.key.as_str()) {
                let message = format!("`x-boxwright` has no key `{}`", field.key);
                let help = match nearest(&field.key, OF_EXTENSION.into_iter()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its keys are {}", OF_EXTENSION.join(", ")),
                };
                self.refuse(field.place, message, &help);
            }
        }
        let profile = self.text_of(&item, "profile", "`profile`");
        let target = self.text_of(&item, "target", "`target`");
        Some(Extension {
            spec: self.text_of(&item, "spec", "`spec`"),
            profile: profile.and_then(|profile| self.parsed(&profile)),
            target: target.and_then(|target| self.parsed(&target)),
            args: self.args(&item),
        })
    }

    /// The folder of `context`, and where it is written.
    fn context(&mut self, build: &Item) -> Option<(PathBuf, Place)> {
        let read = self.text_of(build, "context", "`context`")?;
        if is_remote(&read.text) {
            let message = format!("the context {:?} is not on this machine", read.text);
            self.refuse(read.place, message, "clone it, and name the folder");
            return None;
        }
        Some((self.path(&read.text), read.place))
    }

    /// Where the spec is: where `x-boxwright` or `dockerfile` say, else in the context.
    fn spec(
        &mut self,
        service: &Service<'_>,
        build: &Item,
        context: Option<&(PathBuf, Place)>,
        named: Option<&Read>,
    ) -> Option<SpecPlace> {
        if let Some(named) = named {
            let path = self.path(&named.text);
            let missing = self
                .error(
                    named.place,
                    format!("there is no spec at {}", path.display()),
                )
                .help(
                    "name a spec, or the folder of a boxwright.yaml, relative to the compose file",
                );
            return Some(SpecPlace { path, missing });
        }
        if context.is_none() && build.get("context").is_some() {
            return None;
        }
        let here = self.path(".");
        let (folder, place) = match context {
            Some((folder, place)) => (folder, *place),
            None => (&here, service.place),
        };
        let dockerfile = self.text_of(build, "dockerfile", "`dockerfile`");
        if let Some(dockerfile) = &dockerfile
            && is_spec(&dockerfile.text)
        {
            let path = folder.join(&dockerfile.text);
            let missing = self
                .error(dockerfile.place, format!("there is no spec {}", path.display()))
                .help("`dockerfile` is relative to the context; to name a spec relative to the compose file, write `x-boxwright: FILE`");
            return Some(SpecPlace { path, missing });
        }
        let name = service.name;
        let (place, message) = match &dockerfile {
            Some(dockerfile) => (
                dockerfile.place,
                format!("service `{name}` is built from a Dockerfile, which is not read"),
            ),
            None => (
                place,
                format!("there is no boxwright.yaml in {}", folder.display()),
            ),
        };
        let help = format!(
            "put a boxwright.yaml into {}, or name a spec beside the context: `x-boxwright: {{spec: FILE}}`",
            folder.display()
        );
        Some(SpecPlace {
            path: folder.clone(),
            missing: self.error(place, message).help(help),
        })
    }

    /// Values of arguments; one without a value is the environment's, if that has it.
    fn args(&mut self, map: &Item) -> Vec<(String, String)> {
        let Some(item) = map.get("args").cloned() else {
            return Vec::new();
        };
        let mut args = Vec::new();
        for (name, value) in self.pairs(&item, "`args`") {
            let value = match value {
                Some(value) => Some(value.text),
                None => self.variable(&name.text),
            };
            args.extend(value.map(|value| (name.text, value)));
        }
        args
    }

    fn additional_contexts(&mut self, build: &Item) -> Vec<(Name, PathBuf)> {
        let Some(item) = build.get("additional_contexts").cloned() else {
            return Vec::new();
        };
        let mut contexts = Vec::new();
        for (name, value) in self.pairs(&item, "`additional_contexts`") {
            let Some(value) = value else {
                self.refuse(
                    name.place,
                    format!("context `{}` has no folder", name.text),
                    "write `NAME: FOLDER`",
                );
                continue;
            };
            if is_remote(&value.text) || value.text.starts_with("service:") {
                let message = format!("context `{}` is no folder of this machine", name.text);
                let help = "name a folder; let the spec take images by `from:`";
                self.refuse(value.place, message, help);
                continue;
            }
            let path = self.path(&value.text);
            let name = self.parsed(&name);
            contexts.extend(name.map(|name| (name, path)));
        }
        contexts
    }

    /// Those of `build`, else the one that the service runs on.
    fn platforms(&mut self, service: &Item, build: &Item) -> Vec<Platform> {
        let listed = build.get("platforms").cloned();
        let mut read = listed.map_or_else(Vec::new, |item| self.texts(&item, "`platforms`"));
        if read.is_empty() {
            read.extend(self.text_of(service, "platform", "`platform`"));
        }
        let read = read.iter();
        read.filter_map(|platform| self.parsed(platform)).collect()
    }

    fn secrets(&mut self, root: &Item, build: &Item) -> Vec<(Name, SecretPlace)> {
        let items = match build.get("secrets").map(|item| (item, &item.value)) {
            None => return Vec::new(),
            Some((_, ItemValue::List(items))) => items.clone(),
            Some((item, _)) => {
                self.refuse(
                    self.first_line(item.place),
                    "`secrets` is a list",
                    "write `[ID]`",
                );
                return Vec::new();
            }
        };
        let mut secrets = Vec::new();
        for item in &items {
            let name = match item.get("source") {
                Some(source) => source.clone(),
                None => item.clone(),
            };
            let Some(id) = self.text(&name, "a secret") else {
                continue;
            };
            if let Some(target) = self
                .text_of(item, "target", "`target`")
                .filter(|target| target.text != id.text)
            {
                let message = "a secret has the ID under which the compose file declares it";
                self.refuse(
                    target.place,
                    message,
                    "let the spec say where it is: `mounts: [{secret: ID, target: PATH}]`",
                );
                continue;
            }
            let place = self.secret(root, &id);
            let id = self.parsed(&id);
            secrets.extend(id.zip(place));
        }
        secrets
    }

    fn secret(&mut self, root: &Item, id: &Read) -> Option<SecretPlace> {
        let declared = root
            .get("secrets")
            .and_then(|secrets| secrets.get(&id.text));
        let Some(declared) = declared.cloned() else {
            let message = format!("the secret `{}` is not declared", id.text);
            self.refuse(
                id.place,
                message,
                "write `secrets: {ID: {file: FILE}}` at the top of the compose file",
            );
            return None;
        };
        if let Some(file) = self.text_of(&declared, "file", "`file`") {
            return Some(SecretPlace::File(self.path(&file.text)));
        }
        match self.text_of(&declared, "environment", "`environment`") {
            Some(variable) => Some(SecretPlace::Variable(variable.text)),
            None => {
                let message = format!("the secret `{}` has no content here", id.text);
                self.refuse(
                    self.first_line(declared.place),
                    message,
                    "write `file: FILE` or `environment: VARIABLE`",
                );
                None
            }
        }
    }

    fn agents(&mut self, build: &Item) -> Vec<(Name, Option<PathBuf>)> {
        let Some(item) = build.get("ssh").cloned() else {
            return Vec::new();
        };
        let mut agents = Vec::new();
        for (id, socket) in self.pairs(&item, "`ssh`") {
            let socket = socket.map(|socket| self.path(&socket.text));
            let id = self.parsed(&id);
            agents.extend(id.map(|id| (id, socket)));
        }
        agents
    }
}

/// Whether a context is one that only docker fetches.
fn is_remote(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

/// Whether `dockerfile` names a spec.
fn is_spec(dockerfile: &str) -> bool {
    let extension = Path::new(dockerfile).extension();
    extension.is_some_and(|extension| {
        extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
    })
}
