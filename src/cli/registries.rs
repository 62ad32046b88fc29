//! Where registries are described and who we are there: the variables and files of Docker, podman
//! and our own, in the order in which they count.
//!
//! | what | where, the first that is set |
//! |---|---|
//! | table of registries | `$BOXWRIGHT_REGISTRIES`; ours in the config folder; `$CONTAINERS_REGISTRIES_CONF`; the user's, else the system's `registries.conf` with its `.d` folder |
//! | credentials | `$REGISTRY_AUTH_FILE` alone; else podman's run-time file, podman's and Docker's files of the user, all of them |
//! | certificates | `certs.d` of the user and the system: containers' and Docker's |
//! | authorities | `$SSL_CERT_FILE` and `$SSL_CERT_DIR`, else the system's |
//! | proxies | `http_proxy`, `https_proxy`, `no_proxy`, in lower or upper case |

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwright::transport::http::{HttpSettings, Network, Patience, Proxies, Secret};
use boxwright::transport::registry::RegistrySettings;

use crate::cli::args::NetworkArgs;
use crate::cli::settings::Environment;

impl Environment {
    /// How registries are reached, by the command line and the environment.
    pub(crate) fn registries(&self, args: &NetworkArgs) -> RegistrySettings {
        RegistrySettings {
            http: self.http(args),
            tables: self.tables(),
            certs: self.certificates(),
            auth_files: self.auth_files(),
            insecure: args.insecure.clone(),
            mirrors: args.mirrors.clone(),
            helper_limit: Duration::from_secs(30),
            ..RegistrySettings::default()
        }
    }

    /// How the network is reached.
    pub(crate) fn http(&self, args: &NetworkArgs) -> HttpSettings {
        let text = |name: &str| self.value(name)?.into_string().ok();
        let either = |name: &str| text(name).or_else(|| text(&name.to_ascii_uppercase()));
        HttpSettings {
            network: match args.offline {
                true => Network::Forbidden,
                false => Network::Allowed,
            },
            ca_file: self.value("SSL_CERT_FILE").map(PathBuf::from),
            ca_dirs: match self.value("SSL_CERT_DIR") {
                Some(folders) => std::env::split_paths(&folders).collect(),
                None => Vec::new(),
            },
            proxies: Proxies {
                http: either("http_proxy").map(Secret::new),
                https: either("https_proxy").map(Secret::new),
                none_for: either("no_proxy").unwrap_or_default(),
            },
            patience: Patience {
                // Runners that start together differ in this at least.
                seed: u64::from(std::process::id()),
                ..Patience::default()
            },
        }
    }

    /// The file that `login` writes and that is read first.
    pub(crate) fn auth_file(&self) -> Option<PathBuf> {
        match self.value("REGISTRY_AUTH_FILE") {
            Some(file) => Some(file.into()),
            None => self
                .docker_folder()
                .map(|folder| folder.join("config.json")),
        }
    }

    fn auth_files(&self) -> Vec<PathBuf> {
        if let Some(file) = self.value("REGISTRY_AUTH_FILE") {
            return vec![file.into()];
        }
        let of_containers = |folder: PathBuf| folder.join("containers/auth.json");
        let run_time = self.value("XDG_RUNTIME_DIR").map(PathBuf::from);
        let docker = self
            .docker_folder()
            .map(|folder| folder.join("config.json"));
        let files = [
            run_time.map(of_containers),
            self.config_folder().map(of_containers),
            docker,
        ];
        files.into_iter().flatten().collect()
    }

    fn tables(&self) -> Vec<PathBuf> {
        if let Some(file) = self.value("BOXWRIGHT_REGISTRIES") {
            return vec![file.into()];
        }
        let ours = self
            .config_folder()
            .map(|folder| folder.join("boxwright/registries.toml"));
        if let Some(ours) = ours.filter(|file| file.exists()) {
            return vec![ours];
        }
        if let Some(file) = self.value("CONTAINERS_REGISTRIES_CONF") {
            return vec![file.into()];
        }
        let of_user = self.config_folder().map(|folder| folder.join("containers"));
        let of_user = of_user.filter(|folder| folder.join("registries.conf").exists());
        let folder = of_user.unwrap_or_else(|| PathBuf::from("/etc/containers"));
        let mut tables = vec![folder.join("registries.conf")];
        tables.extend(files_in(&folder.join("registries.conf.d")));
        tables
    }

    fn certificates(&self) -> Vec<PathBuf> {
        let of_user = self
            .config_folder()
            .map(|folder| folder.join("containers/certs.d"));
        let of_system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        of_user.into_iter().chain(of_system).collect()
    }

    fn docker_folder(&self) -> Option<PathBuf> {
        let home = || Some(PathBuf::from(self.value("HOME")?).join(".docker"));
        self.value("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
    }

    fn config_folder(&self) -> Option<PathBuf> {
        let home = || Some(PathBuf::from(self.value("HOME")?).join(".config"));
        let folder = self.value("XDG_CONFIG_HOME").map(PathBuf::from);
        folder.filter(|path| path.is_absolute()).or_else(home)
    }
}

/// The `*.conf` files of a folder, by their names.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let is_conf = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "conf")
    };
    let mut files: Vec<PathBuf> = files.filter(is_conf).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: &[PathBuf]) -> Vec<String> {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn files_are_those_of_docker_and_podman() {
        let home = Environment::made_up(|name| (name == "HOME").then(|| "/h".into()));
        let settings = home.registries(&NetworkArgs::default());
        let expected = ["/h/.config/containers/auth.json", "/h/.docker/config.json"];
        assert_eq!(shown(&settings.auth_files), expected);
        assert_eq!(home.auth_file(), Some("/h/.docker/config.json".into()));
        assert_eq!(settings.http.network, Network::Allowed);
        assert!(shown(&settings.certs).contains(&"/etc/docker/certs.d".to_owned()));
        let all = Environment::made_up(|name| {
            Some(match name {
                "HOME" => "/h".into(),
                "XDG_CONFIG_HOME" => "/c".into(),
                "XDG_RUNTIME_DIR" => "/r".into(),
                "DOCKER_CONFIG" => "/d".into(),
                "CONTAINERS_REGISTRIES_CONF" => "/conf".into(),
                _ => return None,
            })
        });
        let settings = all.registries(&NetworkArgs::default());
        let expected = [
            "/r/containers/auth.json",
            "/c/containers/auth.json",
            "/d/config.json",
        ];
        assert_eq!(shown(&settings.auth_files), expected);
        assert_eq!(shown(&settings.tables), ["/conf"]);
        let alone =
            Environment::made_up(|name| (name == "REGISTRY_AUTH_FILE").then(|| "/a".into()));
        let settings = alone.registries(&NetworkArgs::default());
        assert_eq!(shown(&settings.auth_files), ["/a"]);
        assert_eq!(alone.auth_file(), Some("/a".into()));
    }

    #[test]
    fn the_network_is_what_the_environment_says() {
        let environment = Environment::made_up(|name| {
            Some(match name {
                "HTTPS_PROXY" => "http://u:hunter2@p:1".into(),
                "http_proxy" => "http://q:2".into(),
                "HTTP_PROXY" => "http://never:3".into(),
                "NO_PROXY" => "a,b".into(),
                "SSL_CERT_FILE" => "/ca".into(),
                "SSL_CERT_DIR" => "/x:/y".into(),
                _ => return None,
            })
        });
        let args = NetworkArgs {
            offline: true,
            ..NetworkArgs::default()
        };
        let http = environment.http(&args);
        assert_eq!(http.network, Network::Forbidden);
        assert_eq!(http.ca_file.as_deref(), Some(Path::new("/ca")));
        assert_eq!(shown(&http.ca_dirs), ["/x", "/y"]);
        assert_eq!(http.proxies.none_for, "a,b");
        assert_eq!(http.proxies.http, Some(Secret::new("http://q:2")));
        assert!(!format!("{http:?}").contains("hunter2"));
    }
}
