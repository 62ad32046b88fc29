//! The recipes of `ci/`, run as far as one machine can: their own lines, by a plain user with an
//! empty home, in fresh checkouts, with the variables that each CI sets and a registry with accounts
//! on loopback; twice, the second time with what the first has saved. Jobs that a CI runs in
//! containers run in some: GitLab's in docker's, Kubernetes' pod in podman's, from the very file.
//!
//! What stands in: `tar` for the caches of GitLab and GitHub, the functions below for what
//! `uses:` names, two small programs for `cargo` and `sudo` on GitHub's machine, and one for git in
//! the pod. Names of registries are replaced by where the test's own listens.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boxwright::transport::validate_layout;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::busybox;
use crate::support::peers::{Dockerd, Podman, Skip, Skopeo, may_mount, peer};
use crate::support::plain_user::{as_plain_user, give_away};
use crate::support::process::{Ran, run};
use crate::support::registry::{Door, PASSWORD, RegistryServer, USER, Wire};
use crate::support::sandbox::Sandbox;
use crate::support::seccomp;
use crate::support::source::root;
use crate::support::yaml;

/// What the recipes build: a stage with a command that never gives the same twice, so that it shows
/// if it ran again.
const SPEC: &str = "\
format: 1
image: acme/app
stages:
  work:
    from: oci:base:v1
    steps:
      - {copy: source, to: /src/}
      - run: |
          mkdir /out && wc -c < /src/source > /out/size && head -c 16 /dev/urandom > /out/once
          chown -R 33:33 /out && chmod 600 /out/once && chmod 700 /out
  app:
    from: oci:base:v1
    steps:
      - {copy: /out, from: work, to: /out/}
      - {copy: source, to: /srv/}
    config: {user: www-data, cmd: [cat, /out/size]}
";

/// The same without a command.
const NO_COMMAND: &str = "\
format: 1
image: acme/app
stages:
  app:
    from: oci:base:v1
    steps:
      - {copy: source, to: /srv/}
    config: {user: www-data, cmd: [cat, /srv/source]}
";

const SHA: &str = "4f1c9e0b7a";

fn recipe(name: &str) -> String {
    let path = root().join("ci").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A CI: a registry with an account, folders, and programs.
struct Ci {
    sandbox: Sandbox,
    registry: RegistryServer,
}

impl Ci {
    fn new() -> Result<Ci, Skip> {
        if !may_mount() {
            return Err(Skip::because("root is needed to become other users"));
        }
        let ci = Ci {
            sandbox: Sandbox::new(),
            registry: RegistryServer::start(Wire::Plain, Door::Htpasswd)?,
        };
        let base = busybox::base()?;
        base.write_layout(&ci.sandbox.path("base"), "v1");
        ci.program("tools/boxwright", &installed());
        Ok(ci)
    }

    /// Where the registry listens, which is also its name.
    fn host(&self) -> &str {
        self.registry.address()
    }

    fn program(&self, name: &str, text: &str) {
        self.sandbox.file(name, text);
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(self.sandbox.path(name), mode).expect("set a mode");
    }

    /// A fresh machine's folder with a checkout and an empty home, all of the plain user's.
    fn checkout(&self, job: &str) -> PathBuf {
        let app = format!("{job}/app");
        self.sandbox.file(&format!("{app}/boxwright.yaml"), SPEC);
        self.sandbox
            .file(&format!("{app}/source"), "the source of the app\n");
        let copied = Command::new("cp")
            .args(["-r".as_ref(), self.sandbox.path("base").as_os_str()])
            .arg(self.sandbox.path(&app))
            .status();
        assert!(copied.expect("start cp").success());
        fs::create_dir(self.sandbox.path(format!("{job}/home"))).expect("make a home");
        give_away(&self.sandbox.path(job));
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(self.sandbox.root(), open).expect("open a folder");
        self.sandbox.path(app)
    }

    /// A plain user's shell in a checkout, with the variables of a CI and nothing else.
    fn shell(&self, app: &Path, shell: &[&str], script: &str, variables: &[(&str, String)]) -> Ran {
        let mut command = as_plain_user(shell[0]);
        let home = app.with_file_name("home");
        let path = format!(
            "{}/.cargo/bin:{}:/usr/bin:/bin",
            home.display(),
            self.sandbox.path("tools").display()
        );
        command
            .args(&shell[1..])
            .arg(script)
            .env_clear()
            .current_dir(app)
            .env("PATH", path)
            .env("HOME", home)
            .env("CI", "true")
            .envs(variables.iter().map(|(name, value)| (name, value)));
        run(&mut command)
    }

    /// The pushed image, read back by skopeo and found right; gives its digest.
    fn pushed(&self, skopeo: &Skopeo, tag: &str) -> String {
        let back = self.sandbox.path(format!("back-{tag}"));
        let _ = fs::remove_dir_all(&back);
        let from = format!("docker://{}/acme/app:{tag}", self.host());
        let to = format!("oci:{}:v1", back.display());
        let account = format!("{USER}:{PASSWORD}");
        let options = ["copy", "--preserve-digests", "--src-tls-verify=false"];
        let rest = ["--src-creds", &account, &from, &to];
        skopeo.run(options.iter().chain(&rest)).ok();
        let found = validate_layout(&back).expect("a layout");
        assert!(found.is_empty(), "{found:?}");
        let index = fs::read(back.join("index.json")).expect("read the index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        index["manifests"][0]["digest"].to_string()
    }
}

/// A program that is the compiled `boxwright`.
fn installed() -> String {
    format!(
        "#!/bin/sh\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_boxwright")
    )
}

/// Saves a folder of a checkout, or of a home, as a CI does: without owners, and by the user of the
/// job, who must be able to read all of it.
fn save(place: &Path, name: &str, archive: &Path) {
    let mut command = as_plain_user("tar");
    command.arg("-C").arg(place).args(["-c", name]);
    let output = command.output().expect("start tar");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
    fs::write(archive, output.stdout).expect("save a cache");
}

fn restore(archive: &Path, place: &Path) {
    let mut command = as_plain_user("tar");
    let options = ["--no-same-owner", "-xf"];
    run(command.args(options).arg(archive).arg("-C").arg(place)).ok();
}

/// That no command ran and no layer was written in a job. Files of a fresh checkout are read again,
/// as nothing but their content says that they are the same.
#[track_caller]
fn nothing_was_done(ran: &Ran) {
    for line in ran.stderr.lines().map(str::trim_start) {
        let is_done = line.starts_with("Built ") && line.contains("] run ");
        assert!(!is_done && !line.starts_with("Sandbox "), "{line}\n{ran:?}");
        let is_layer = line.starts_with("Layer ");
        assert!(!is_layer || line.ends_with("cached)"), "{line}\n{ran:?}");
    }
    assert!(ran.stderr.contains("nothing new"), "{ran:?}");
}

#[track_caller]
fn something_was_done(ran: &Ran) {
    assert!(ran.stderr.contains("Built [work 2/2] run "), "{ran:?}");
    assert!(
        ran.stdout.contains("A build takes tier "),
        "doctor: {ran:?}"
    );
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
}

#[test]
fn a_plain_shell_takes_everything_from_its_folder() {
    let (ci, skopeo) = (peer!(Ci::new()), peer!(Skopeo::start()));
    let cache = ci.sandbox.path("cache.tar");
    let script = recipe("plain.sh");
    let variables = [
        ("REGISTRY", ci.host().to_owned()),
        ("REGISTRY_USER", USER.to_owned()),
        ("REGISTRY_PASSWORD", PASSWORD.to_owned()),
        ("COMMIT", SHA.to_owned()),
    ];
    let first = ci.checkout("first");
    something_was_done(&ci.shell(&first, &["sh", "-c"], &script, &variables).ok());
    save(&first, ".boxwright", &cache);
    let digest = ci.pushed(&skopeo, SHA);
    let second = ci.checkout("second");
    restore(&cache, &second);
    nothing_was_done(&ci.shell(&second, &["sh", "-c"], &script, &variables).ok());
    assert_eq!(ci.pushed(&skopeo, SHA), digest);
}

/// What GitLab's documentation calls keywords of a job, as far as ours has any.
const GITLAB_KEYS: [&str; 6] = [
    "stage",
    "image",
    "variables",
    "cache",
    "script",
    "after_script",
];

/// The scripts of the one job: the main one, and the one that comes after it.
fn gitlab() -> (String, String, Value) {
    let file = yaml::read(&recipe("gitlab.yml"));
    let jobs = file.as_object().expect("a mapping");
    let (name, job) = jobs.iter().next().expect("a job");
    // Words that mean something else at the top of the file.
    assert!(!["image", "stages", "cache", "variables"].contains(&name.as_str()));
    for key in job.as_object().expect("a job").keys() {
        assert!(GITLAB_KEYS.contains(&key.as_str()), "{key}");
    }
    assert_eq!(
        (jobs.len(), &job["cache"]["paths"]),
        (1, &json!([".boxwright"]))
    );
    let lines = |key: &str| {
        let lines = job[key].as_array().expect("lines").iter();
        let lines: Vec<_> = lines.map(|line| line.as_str().expect("a line")).collect();
        lines.join("\n")
    };
    (lines("script"), lines("after_script"), job.clone())
}

/// What GitLab sets for a job whose checkout is here, and what the job adds.
fn gitlab_variables(ci: &Ci, job: &Value, checkout: &str) -> Vec<(&'static str, String)> {
    let store = job["variables"]["BOXWRIGHT_STORE"].as_str().expect("text");
    let store = store.replace("$CI_PROJECT_DIR", checkout);
    vec![
        ("BOXWRIGHT_STORE", store),
        ("GITLAB_CI", "true".to_owned()),
        ("CI_PROJECT_DIR", checkout.to_owned()),
        ("CI_REGISTRY", ci.host().to_owned()),
        ("CI_REGISTRY_USER", USER.to_owned()),
        ("CI_REGISTRY_PASSWORD", PASSWORD.to_owned()),
        ("CI_REGISTRY_IMAGE", format!("{}/acme/app", ci.host())),
        ("CI_COMMIT_SHORT_SHA", SHA.to_owned()),
    ]
}

#[test]
fn gitlabs_job_takes_everything_from_its_cache() {
    let (ci, skopeo) = (peer!(Ci::new()), peer!(Skopeo::start()));
    let (script, after, job) = gitlab();
    let cache = ci.sandbox.path("cache.tar");
    let ran = |app: &Path| {
        let variables = gitlab_variables(&ci, &job, app.to_str().expect("a path is text"));
        let shell = ["bash", "-e", "-o", "pipefail", "-c"];
        let ran = ci.shell(app, &shell, &script, &variables).ok();
        ci.shell(app, &shell, &after, &variables).ok();
        save(app, ".boxwright", &cache);
        ran
    };
    something_was_done(&ran(&ci.checkout("first")));
    let digest = ci.pushed(&skopeo, SHA);
    let second = ci.checkout("second");
    restore(&cache, &second);
    nothing_was_done(&ran(&second));
    assert_eq!(ci.pushed(&skopeo, SHA), digest);
}

/// The image of `specs/ci` with the compiled `boxwright`, over the busybox of the tests.
fn ci_image(ci: &Ci) -> PathBuf {
    let source = ci.sandbox.path("boxwright-source");
    let program = source.join("target/x86_64-linux-gnu/release/boxwright");
    fs::create_dir_all(program.parent().expect("a folder")).expect("make a folder");
    fs::copy(env!("CARGO_BIN_EXE_boxwright"), &program).expect("copy the program");
    for name in [
        "specs/ci/boxwright.yaml",
        "specs/ci/boxwright.yaml.dockerignore",
        "specs/boxwright/ca-certificates.crt",
    ] {
        let to = source.join(name);
        fs::create_dir_all(to.parent().expect("a folder")).expect("make a folder");
        fs::copy(root().join(name), to).expect("copy a file");
    }
    let archive = ci.sandbox.path("ci.tar");
    let base = format!("BASE=oci:{}:v1", ci.sandbox.path("base").display());
    let output = format!("oci-archive:{}", archive.display());
    let source = source.join("specs/ci");
    let args = [
        "build",
        source.to_str().expect("text"),
        "--arg",
        &base,
        "-o",
        &output,
    ];
    let rest = [
        "-t",
        "registry.example.org/tools/boxwright-ci",
        "--compression",
        "none",
    ];
    ci.sandbox.boxwright(args.iter().chain(&rest)).ok();
    archive
}

#[test]
fn gitlabs_job_runs_in_a_container_of_dockers_defaults() {
    let (ci, skopeo) = (peer!(Ci::new()), peer!(Skopeo::start()));
    let docker = peer!(Dockerd::shared());
    let (script, after, job) = gitlab();
    docker.load(&ci_image(&ci));
    let cache = ci.sandbox.path("cache.tar");
    let ran = |app: &Path| {
        let inside = "/builds/acme/app";
        let mut args: Vec<String> = ["run", "--rm", "--network", "host", "-w", inside]
            .map(str::to_owned)
            .to_vec();
        args.extend(["-v".to_owned(), format!("{}:{inside}", app.display())]);
        for (name, value) in gitlab_variables(&ci, &job, inside) {
            args.extend(["-e".to_owned(), format!("{name}={value}")]);
        }
        let image = job["image"].as_str().expect("an image").to_owned();
        args.extend([image, "sh".to_owned(), "-ec".to_owned()]);
        let container = |script: &str| docker.run(args.iter().chain([&script.to_owned()])).ok();
        let ran = container(&script);
        container(&after);
        ran
    };
    let first = ci.checkout("first");
    let made = ran(&first);
    something_was_done(&made);
    assert!(made.stdout.contains("A build takes tier C"), "{made:?}");
    let digest = ci.pushed(&skopeo, SHA);
    // The runner saves and restores as root.
    run(Command::new("tar")
        .arg("-C")
        .arg(&first)
        .arg("-cf")
        .arg(&cache)
        .arg(".boxwright"))
    .ok();
    let second = ci.checkout("second");
    run(Command::new("tar")
        .arg("-C")
        .arg(&second)
        .arg("-xf")
        .arg(&cache))
    .ok();
    nothing_was_done(&ran(&second));
    assert_eq!(ci.pushed(&skopeo, SHA), digest);
}

/// GitHub's machine: what steps see, and the caches of the repository.
struct Runner<'ci> {
    ci: &'ci Ci,
    caches: PathBuf,
    app: PathBuf,
    sha: &'static str,
    /// Whether the cache with this `id` was found under its very key.
    hits: Vec<(String, bool)>,
    /// What is saved when the job is done: where it lies, its name, its key.
    saved: Vec<(PathBuf, String, String)>,
}

impl Runner<'_> {
    /// `${{ … }}` and names of registries in a text.
    fn filled(&self, text: &str) -> String {
        let expression = Regex::new(r"\$\{\{ *([a-z.]+) *\}\}").expect("a fixed pattern");
        let value = |found: &regex::Captures<'_>| match &found[1] {
            "github.workspace" => self.app.display().to_string(),
            "github.sha" => self.sha.to_owned(),
            "github.token" => PASSWORD.to_owned(),
            other => panic!("the test does not know {other}"),
        };
        let text = expression.replace_all(text, value);
        text.replace("ghcr.io", self.ci.host())
    }

    /// `actions/cache`: restores now, saves at the end unless the very key was there.
    fn cache(&mut self, step: &Value) {
        let text = |name: &str| self.filled(step["with"][name].as_str().unwrap_or_default());
        let (path, key, prefix) = (text("path"), text("key"), text("restore-keys"));
        let (place, name) = match path.strip_prefix("~/") {
            Some(name) => (self.app.with_file_name("home"), name.to_owned()),
            None => (self.app.clone(), path),
        };
        let exact = self.caches.join(&key);
        let is_hit = exact.exists();
        let mut entries = fs::read_dir(&self.caches).expect("list the caches");
        let mut similar = || {
            entries.find_map(|entry| {
                let entry = entry.expect("list the caches");
                let is_it = entry.file_name().to_string_lossy().starts_with(&prefix);
                (is_it && !prefix.is_empty()).then(|| entry.path())
            })
        };
        let found = if is_hit { Some(exact) } else { similar() };
        if let Some(found) = found {
            restore(&found, &place);
        }
        if !is_hit {
            self.saved.push((place, name, key));
        }
        let id = step["id"].as_str().unwrap_or_default().to_owned();
        self.hits.push((id, is_hit));
    }

    fn is_wanted(&self, step: &Value) -> bool {
        let Some(condition) = step["if"].as_str() else {
            return true;
        };
        let id = condition.strip_prefix("steps.");
        let id = id.and_then(|rest| rest.strip_suffix(".outputs.cache-hit != 'true'"));
        let id = id.unwrap_or_else(|| panic!("the test does not know {condition}"));
        let hit = self.hits.iter().find(|(known, _)| known == id);
        !hit.expect("a step before this one").1
    }

    /// Runs the job; gives what all its steps have said.
    fn run(&mut self, workflow: &Value) -> (String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        for step in workflow["jobs"]["image"]["steps"]
            .as_array()
            .expect("steps")
        {
            if !self.is_wanted(step) {
                continue;
            }
            match (step["uses"].as_str(), step["run"].as_str()) {
                (Some("actions/checkout@v4"), None) => {}
                (Some("actions/cache@v4"), None) => self.cache(step),
                (None, Some(line)) => {
                    let ran = self.shell(workflow, step, line);
                    out += &ran.stdout;
                    err += &ran.stderr;
                }
                other => panic!("the test does not know {other:?}"),
            }
        }
        for (place, name, key) in &self.saved {
            save(place, name, &self.caches.join(key));
        }
        (out, err)
    }

    fn shell(&self, workflow: &Value, step: &Value, line: &str) -> Ran {
        let mut variables = vec![
            ("GITHUB_ACTOR", USER.to_owned()),
            ("GITHUB_REPOSITORY", "acme/app".to_owned()),
            ("GITHUB_SHA", self.sha.to_owned()),
        ];
        let given = [&workflow["env"], &step["env"]];
        let given = given.into_iter().filter_map(Value::as_object).flatten();
        for (name, value) in given {
            let value = value.as_str().expect("text");
            variables.push((name, self.filled(value)));
        }
        // So the runner starts what names no shell.
        self.ci
            .shell(
                &self.app,
                &["bash", "-e", "-c"],
                &self.filled(line),
                &variables,
            )
            .ok()
    }
}

#[test]
fn githubs_job_takes_everything_from_its_caches() {
    let (ci, skopeo) = (peer!(Ci::new()), peer!(Skopeo::start()));
    let workflow = yaml::read(&recipe("github.yml"));
    assert_eq!(workflow["permissions"]["packages"], "write");
    // On this machine Boxwright is compiled, and the machine is set up by its plain user.
    fs::remove_file(ci.sandbox.path("tools/boxwright")).expect("remove a program");
    ci.sandbox.file("installed", installed());
    let log = |name: &str| format!("echo {name} \"$@\" >> ~/log");
    let to = "~/.cargo/bin/boxwright";
    let install = format!(
        "mkdir -p ~/.cargo/bin && cp {} {to} && chmod 755 {to}",
        ci.sandbox.path("installed").display()
    );
    ci.program(
        "tools/cargo",
        &format!("#!/bin/sh\n{}\n{install}\n", log("cargo")),
    );
    ci.program("tools/sudo", &format!("#!/bin/sh\n{}\n", log("sudo")));
    let caches = ci.sandbox.path("caches");
    fs::create_dir(&caches).expect("make a folder");
    let job = |name: &str, sha: &'static str| {
        let app = ci.checkout(name);
        let mut runner = Runner {
            ci: &ci,
            caches: caches.clone(),
            app: app.clone(),
            sha,
            hits: Vec::new(),
            saved: Vec::new(),
        };
        let (stdout, stderr) = runner.run(&workflow);
        let log = fs::read_to_string(app.with_file_name("home").join("log"));
        (Ran::of(&stdout, &stderr), log.expect("read the log"))
    };
    let sysctl = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n";
    let (made, log) = job("first", SHA);
    something_was_done(&made);
    let git = "cargo install --locked --git https://github.com/boxwright/boxwright\n";
    assert_eq!(log, format!("{git}{sysctl}"));
    // The next commit changes nothing of the image.
    let (taken, log) = job("second", "0a0a0a");
    nothing_was_done(&taken);
    assert_eq!(log, sysctl);
    assert_eq!(ci.pushed(&skopeo, SHA), ci.pushed(&skopeo, "0a0a0a"));
    let mut keys: Vec<_> = fs::read_dir(&caches).expect("list").collect();
    keys.retain(|entry| entry.is_ok());
    assert_eq!(keys.len(), 3, "the program, and a store for each commit");
}

/// A cluster of one node: podman, which plays files of Kubernetes.
struct Cluster<'ci> {
    ci: &'ci Ci,
    podman: Podman,
}

impl Cluster<'_> {
    /// Builds and loads an image over the base of the tests, whose context is `NAME/`.
    fn image(&self, name: &str, tag: &str, steps: &str, entrypoint: &str) {
        let spec = format!(
            "format: 1\nimage: unnamed\nstages:\n  image:\n    from: oci:../base:v1\n    \
             steps: [{steps}]\n    config: {{user: root, entrypoint: {entrypoint}}}\n    \
             allow: [root]\n"
        );
        let sandbox = &self.ci.sandbox;
        sandbox.file(&format!("{name}/boxwright.yaml"), spec);
        let archive = sandbox.path(format!("{name}.tar"));
        let output = format!("oci-archive:{}", archive.display());
        sandbox
            .boxwright(["build", name, "-t", tag, "-o", &output])
            .ok();
        self.podman.load(&archive);
    }

    /// What the source is cloned from: an image that stands in for git, with the source in it.
    fn repository(&self, spec: &str, source: &str) {
        let sandbox = &self.ci.sandbox;
        let _ = fs::remove_dir_all(sandbox.path("git"));
        sandbox.file("git/app/boxwright.yaml", spec);
        sandbox.file("git/app/source", source);
        let copied = Command::new("cp")
            .arg("-r")
            .args([sandbox.path("base"), sandbox.path("git/app/base")])
            .status();
        assert!(copied.expect("start cp").success());
        let script = "#!/bin/sh\nset -e\ntest \"$1 $2 $3\" = \
            'clone --depth=1 https://git.example.org/acme/app.git'\ncp -r /srv/app \"$4\"\n";
        sandbox.file("git/git", script);
        let steps = "{copy: app, to: /srv/app}, {copy: git, to: /usr/bin/, mode: '0755'}";
        self.image("git", "docker.io/alpine/git:latest", steps, "[git]");
    }

    /// The secrets that the recipe's head says how to make, in the forms that this podman wants for
    /// a file and for a variable.
    fn make_secrets(&self) {
        let account = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let accounts = json!({"auths": {self.ci.host(): {"auth": account}}}).to_string();
        let key = STANDARD.encode("a key that is long enough, surely");
        for (name, data) in [
            ("registry", json!({"data": {".dockerconfigjson": accounts}})),
            ("boxwright", json!({"cache-key": key})),
        ] {
            self.ci.sandbox.file("secret.json", data.to_string());
            let file = self.ci.sandbox.path("secret.json");
            let file = file.to_str().expect("a path is text");
            self.podman.run(["secret", "create", name, file]).ok();
        }
    }

    /// Plays a pod to its end.
    fn play(&self, pod: &str) -> Ran {
        let pod = pod.replace(
            "registry.example.org/acme",
            &format!("{}/acme", self.ci.host()),
        );
        let profile = yaml::read(&pod)["spec"]["securityContext"]["seccompProfile"]["type"].clone();
        // podman takes profiles by the annotation that was before there was the field.
        let annotation = match profile.as_str() {
            Some("RuntimeDefault") => "localhost/seccomp.json",
            Some("Unconfined") => "unconfined",
            other => panic!("the test does not know {other:?}"),
        };
        let name = "  name: build-app\n";
        let annotation = format!(
            "{name}  annotations: {{seccomp.security.alpha.kubernetes.io/pod: {annotation}}}\n"
        );
        assert_eq!(pod.matches(name).count(), 1);
        self.ci
            .sandbox
            .file("pod.yaml", pod.replace(name, &annotation));
        let folder = self.ci.sandbox.work().display().to_string();
        let file = self.ci.sandbox.path("pod.yaml").display().to_string();
        let options = [
            "--network",
            "host",
            "--seccomp-profile-root",
            &folder,
            &file,
        ];
        self.podman
            .run(["kube", "play"].iter().chain(&options))
            .ok();
        let code = self.podman.run(["wait", "build-app-build"]).ok().stdout;
        let mut ran = self.podman.run(["logs", "build-app-build"]).ok();
        ran.code = code.trim().parse().expect("an exit code");
        // Nothing waits for a program that has been killed.
        self.podman.run(["pod", "kill", "build-app"]);
        self.podman
            .run(["pod", "rm", "-f", "-t", "0", "build-app"])
            .ok();
        self.podman.run(["volume", "prune", "-f"]).ok();
        ran
    }
}

#[test]
fn kubernetes_pod_builds_without_any_right() {
    let (ci, skopeo) = (peer!(Ci::new()), peer!(Skopeo::start()));
    let podman = peer!(Podman::start());
    fs::write(
        ci.sandbox.path("seccomp.json"),
        peer!(seccomp::of_containerd()),
    )
    .expect("write");
    podman.load(&ci_image(&ci));
    let cluster = Cluster { ci: &ci, podman };
    cluster.make_secrets();
    cluster.podman.set_for_pods("localhost/pause:v1");
    cluster.image("pause", "localhost/pause:v1", "", "[sleep, '600']");
    let pod = recipe("kubernetes.yaml");

    // As it stands: no tier, which only matters to commands.
    cluster.repository(NO_COMMAND, "one source\n");
    let made = cluster.play(&pod).ok();
    assert!(
        made.stdout
            .contains("Steps with `run` fail here; all others work."),
        "{made:?}"
    );
    ci.pushed(&skopeo, "main");
    cluster.repository(SPEC, "one source\n");
    let refused = cluster.play(&pod).fails_with(3);
    assert!(
        refused.stderr.contains("no sandbox works here"),
        "{refused:?}"
    );

    // With the one word that the recipe names: tier B.
    let unconfined = pod.replace("{type: RuntimeDefault}", "{type: Unconfined}");
    let made = cluster.play(&unconfined).ok();
    assert!(made.stdout.contains("A build takes tier B"), "{made:?}");
    something_was_done(&made);
    let digest = ci.pushed(&skopeo, "main");

    // What is in the cache needs no tier at all.
    nothing_was_done(&cluster.play(&pod).ok());
    assert_eq!(ci.pushed(&skopeo, "main"), digest);

    // The other way that the recipe names: root of its own container, tier C.
    cluster.repository(SPEC, "another source\n");
    let rooted = pod
        .replace("runAsUser: 65532", "runAsUser: 0")
        .replace("runAsNonRoot: true", "runAsNonRoot: false")
        .replace(
            "capabilities: {drop: [ALL]}",
            "capabilities: {drop: [ALL], add: [CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, SYS_CHROOT]}",
        );
    let made = cluster.play(&rooted).ok();
    assert!(made.stdout.contains("A build takes tier C"), "{made:?}");
    something_was_done(&made);
    assert_ne!(ci.pushed(&skopeo, "main"), digest);

    // `hostUsers: false` means nothing to this podman, so it is asked for by hand.
    let profile = format!("seccomp={}", ci.sandbox.path("seccomp.json").display());
    let ids = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    let rights = [
        "--cap-drop",
        "all",
        "--cap-add",
        "CHOWN,DAC_OVERRIDE,FOWNER,SETGID,SETUID,SYS_CHROOT",
    ];
    let options = [
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        &profile,
    ];
    let image = [
        "registry.example.org/tools/boxwright-ci",
        "boxwright",
        "doctor",
    ];
    let args = ["run", "--rm", "--network", "none"];
    let args = args
        .iter()
        .chain(&ids)
        .chain(&rights)
        .chain(&options)
        .chain(&image);
    let made = cluster.podman.run(args).ok();
    assert!(made.stdout.contains("A build takes tier C"), "{made:?}");
}

#[test]
fn the_pod_is_as_strict_as_kubernetes_restricted_standard() {
    let pod = yaml::read(&recipe("kubernetes.yaml"));
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], "true");
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let all = |key: &str| spec[key].as_array().expect("containers").clone();
    for container in all("containers").iter().chain(&all("initContainers")) {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], "false");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    }
    for volume in all("volumes") {
        let kinds: Vec<_> = volume.as_object().expect("a volume").keys().collect();
        assert!(
            ["emptyDir", "secret"]
                .iter()
                .any(|kind| kinds.contains(&&(*kind).to_owned()))
        );
    }
}

/// A block of code in the README whose first line, after a `#!`, is `# ci/NAME: …` shows that file,
/// and shows it as it is.
#[test]
fn the_readme_shows_the_recipes_as_they_are() {
    let readme = fs::read_to_string(root().join("README.md")).expect("read the README");
    for block in readme.split("\n```").skip(1).step_by(2) {
        let (_, text) = block.split_once('\n').unwrap_or_default();
        let line = text.lines().find(|line| !line.starts_with("#!"));
        let name = line.and_then(|line| line.strip_prefix("# ci/")?.split_once(':'));
        if let Some((name, _)) = name {
            assert_eq!(text.trim_end(), recipe(name).trim_end(), "ci/{name}");
        }
    }
    for name in ["plain.sh", "gitlab.yml", "github.yml", "kubernetes.yaml"] {
        let text = recipe(name);
        let mut lines = text.lines().filter(|line| !line.starts_with("#!"));
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with(&format!("# ci/{name}: ")), "{first}");
    }
}
