//! Compose files: what is read, merged, named and refused.

use super::*;

/// Variables that the tests know.
fn variables(name: &str) -> Option<String> {
    let value = match name {
        "TAG" => "1.4",
        "EMPTY" => "",
        "HOME" => "/home/ada",
        "FROM_HOST" => "host",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read_in(
    folder: &str,
    files: &[&str],
    wanted: &[&str],
    project: Option<&str>,
) -> Result<Composition, Diagnostics> {
    let numbered = files.iter().enumerate();
    let files: Vec<Arc<SourceText>> = numbered
        .map(|(number, text)| Arc::new(SourceText::new(format!("{number}.yaml"), *text)))
        .collect();
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    compose(&ComposeInputs {
        files: &files,
        folder: Path::new(""),
        folder_name: folder,
        project,
        variables: &variables,
        wanted: &wanted,
    })
}

fn read(files: &[&str]) -> Result<Composition, Diagnostics> {
    read_in("My Stack", files, &[], None)
}

/// An image in one line: what is said of it and nothing else.
fn shown(image: &ComposedImage) -> String {
    let mut parts = vec![
        image.services.join("+"),
        image.spec.path.display().to_string(),
        image
            .names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    ];
    let mut part = |name: &str, value: Option<String>| {
        parts.extend(value.map(|value| format!("{name} {value}")));
    };
    part("target", image.target.as_ref().map(ToString::to_string));
    part("profile", image.profile.as_ref().map(ToString::to_string));
    for (name, value) in &image.args {
        part("arg", Some(format!("{name}={value}")));
    }
    for (name, path) in &image.contexts {
        part("context", Some(format!("{name}={}", path.display())));
    }
    for platform in &image.platforms {
        part("for", Some(platform.to_string()));
    }
    for (id, place) in &image.secrets {
        part("secret", Some(format!("{id}={place:?}")));
    }
    for (id, socket) in &image.agents {
        part("agent", Some(format!("{id}={socket:?}")));
    }
    part("no cache", image.no_cache.then(String::new));
    parts.join(" | ")
}

fn shown_all(composition: &Composition) -> Vec<String> {
    composition.images.iter().map(shown).collect()
}

#[test]
fn everything_that_is_read() {
    let composition = read(&[r#"
name: shop
x-args: &args {NODE: "20", DEBUG: true}
services:
  plain: {build: ./web}
  dotted: {build: .}
  all:
    image: registry.example.com/team/all:${TAG}
    platform: linux/arm64
    build:
      context: ~/all
      dockerfile: image.yaml
      args: {<<: *args, FROM_HOST: , NOT_THERE: , TEXT: "a $$b ${EMPTY:-c}"}
      target: runtime
      tags: ["all:${TAG}-x", "localhost/all"]
      platforms: [linux/amd64, linux/arm64]
      additional_contexts: [shared=../shared, "docs=./docs"]
      secrets: [npm, {source: token}]
      ssh: [default, deploy=/run/agent.sock]
      no_cache: true
      network: host
      pull: true
  listed:
    build: {context: listed, args: [A=1, "B=x=y", FROM_HOST, NOT_THERE]}
  spec: {build: {x-boxwright: specs/spec.yaml}}
  specced:
    build: {context: src/app, target: old, args: {A: "1", B: "2"}}
    x-boxwright: {spec: ./specs/app, profile: prod, target: new, args: {B: "3"}}
  profiled: {build: web, x-boxwright: {profile: dev}}
  unbuilt: {image: docker.io/library/redis:7}
  run_only: {image: "registry.example.com/team/all:1.4", command: [work]}
  only_spec: {image: only, x-boxwright: only.yaml}
secrets:
  npm: {file: ./npmrc}
  token: {environment: TOKEN}
"#])
    .unwrap();
    assert_eq!(composition.project, "shop");
    assert_eq!(composition.notes, [""; 0]);
    insta::assert_snapshot!(shown_all(&composition).join("\n"));
}

#[test]
fn what_is_not_read_is_not_judged() {
    // Secrets of the run need not be set, and unknown keys and tags may hold anything.
    let text = r#"
version: "3"
services:
  app:
    build: app
    image: app
    environment: {PASSWORD: "${PASSWORD:?set it}", BROKEN: "${", PRICE: $5}
    ports: !custom [1, {a: b}]
    volumes: !reset null
    unknown: {x: [y]}
  other:
    image: ${OTHER:?not set}
    depends_on: !override {app: {condition: service_healthy}}
volumes: 7
"#;
    let composition = read(&[text]).unwrap();
    assert_eq!(
        shown_all(&composition),
        ["app | app | docker.io/library/app:latest"]
    );
    // Of services that are not built nothing is read at all.
    let text = "services:\n  a: {build: a, image: a}\n  b: {build: {context: '${NONE:?x}', odd: 1}}\n  c: 7\n";
    let composition = read_in("f", &[text], &["a"], None).unwrap();
    assert_eq!(composition.images.len(), 1);
}

#[test]
fn later_files_go_before_earlier_ones() {
    let base = r#"
name: one
services:
  map:
    image: map:1
    build: {context: ., args: {A: "1", B: "1"}, target: t1, tags: [x], platforms: [linux/amd64]}
    x-boxwright: {spec: one.yaml, profile: dev}
  list: {build: {context: ., args: [A=1, B=1]}}
  text: {build: text}
  reset: {image: r, build: {context: r, target: gone, args: {A: "1", B: "1"}}}
  override: {image: o, build: {context: o, target: gone, args: {A: "1"}}}
  unbuilt: {image: u, build: u}
  pulled: {image: p}
"#;
    let over = r#"
name: two
services:
  map:
    image: map:2
    build: {args: [B=2, C=2], target: t2, tags: [y], platforms: [linux/arm64]}
    x-boxwright: {spec: two.yaml}
  list: {build: {args: {B: "2", C: "2"}}}
  text: {build: {target: t}}
  reset: {build: {target: !reset null, args: {A: !reset null}}}
  override: {build: !override {context: new}}
  unbuilt: {build: !reset null}
  pulled: {build: p}
  new: {build: new}
"#;
    let composition = read(&[base, "", over]).unwrap();
    assert_eq!(composition.project, "two");
    insta::assert_snapshot!(shown_all(&composition).join("\n"));
}

#[test]
fn merge_keys_take_in_maps() {
    let text = r#"
x-a: &a {context: a, target: a}
x-b: &b {target: b, args: {B: b}}
x-c: &c {<<: [*a, *b], args: {C: c}}
services:
  one: {image: one, build: {<<: *a, context: own}}
  several: {image: several, build: {<<: [*a, *b]}}
  nested: {image: nested, build: {<<: *c, target: own}}
  service: {<<: {image: inline, build: x}, image: service}
  nothing: {<<: , image: nothing, build: n}
"#;
    insta::assert_snapshot!(shown_all(&read(&[text]).unwrap()).join("\n"));
    // Specs know no merge keys, and that stays so.
    let spec = Arc::new(SourceText::new("s", "format: 1\n<<: {image: x}\n"));
    let platform: Platform = "linux/amd64".parse().unwrap();
    let inputs = crate::spec::ParseInputs {
        arg_overrides: &[],
        profile: None,
        files: &crate::spec::NoFiles,
        platform: &platform,
    };
    let error = crate::spec::parse(&spec, &inputs).unwrap_err().to_string();
    assert!(error.contains("maps are not merged"), "{error}");
}

#[test]
fn services_extend_others_of_the_files() {
    let text = r#"
services:
  base: {image: app, build: {context: app, args: {A: "1", B: "1"}}}
  worker: {extends: base, command: work}
  debug: {extends: {service: worker}, image: app:debug, build: {target: debug, args: {B: "2"}}}
"#;
    insta::assert_snapshot!(shown_all(&read(&[text]).unwrap()).join("\n"));
    // What is not built may extend whatever it likes.
    let text = "services:\n  a: {image: a, build: a}\n  b: {extends: {file: f, service: s}}\n  c: {extends: c}\n";
    assert_eq!(read_in("f", &[text], &["a"], None).unwrap().images.len(), 1);
}

#[test]
fn images_without_a_name_are_named_as_compose_names_them() {
    let text = "services: {web: {build: .}}";
    let names = |folder: &str, text: &str, project| {
        let composition = read_in(folder, &[text], &[], project).unwrap();
        let names = composition.images[0].names.iter();
        names.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for (folder, text, project, expected) in [
        (
            "My Stack",
            text,
            None,
            "localhost/mystack_web:latest docker.io/library/mystack-web:latest",
        ),
        (
            "x",
            "name: a-b\nservices: {web: {build: .}}",
            None,
            "localhost/a-b_web:latest docker.io/library/a-b-web:latest",
        ),
        (
            "x",
            "name: named\nservices: {web: {build: .}}",
            Some("typed"),
            "localhost/typed_web:latest docker.io/library/typed-web:latest",
        ),
        (
            "x",
            "name: p${EMPTY}\nservices: {web: {build: ., image: '${COMPOSE_PROJECT_NAME}/web'}}",
            None,
            "docker.io/p/web:latest",
        ),
    ] {
        assert_eq!(names(folder, text, project), expected, "{text}");
    }
}

#[test]
fn notes_say_what_has_no_effect() {
    let text = "name: p\nservices:\n  a:\n    image: a:${NONE}${NONE}x\n    build: {context: ., cache_from: [x], privileged: true, sbom: false, ulimits: {}, x-other: 1}\n";
    let composition = read(&[text]).unwrap();
    insta::assert_snapshot!(composition.notes.join("\n"));
}

#[test]
fn what_is_wrong_is_told_with_place_and_remedy() {
    let service = |text: &str| format!("services:\n  web:\n    {text}\n");
    let cases = [
        "[]".to_owned(),
        "".to_owned(),
        "x: 1".to_owned(),
        "services: {a: {image: a}}".to_owned(),
        "services:\n  a:\n   <<: text\n   build: .\n".to_owned(),
        "include: [other.yaml]\nservices: {a: {build: a}}".to_owned(),
        "name: Not A Name\nservices: {a: {build: a}}".to_owned(),
        service("build: [x]"),
        service("build: {context: [x]}"),
        service("build: {contxt: .}"),
        service("build: {oddity: .}"),
        service("build: https://github.com/a/b.git"),
        service("build: {context: ., dockerfile_inline: FROM x}"),
        service("build: {context: ., labels: {a: b}}"),
        service("build: {context: ., extra_hosts: [a=b]}"),
        service("build: {context: ., network: none}"),
        service("build: {context: ., args: x}"),
        service("build: {context: ., args: {A: [1]}}"),
        service("build: {context: ., no_cache: maybe}"),
        service("build: {context: ., platforms: linux/amd64}"),
        service("build: {context: ., platforms: [nonsense]}"),
        service("build: {context: ., target: 'a b'}"),
        service("build: {context: ., secrets: [gone]}"),
        service("build: {context: ., secrets: {a: b}}"),
        service("build: {context: ., additional_contexts: {a: service:b}}"),
        service("build: {context: ., additional_contexts: [a]}"),
        service("build: {context: ., x-boxwright: {sepc: a}}"),
        service("{build: {context: ., x-boxwright: a}, x-boxwright: b}"),
        service("{build: ., image: 'a:b:c'}"),
        service(&format!(
            "{{build: ., image: 'a@sha256:{}'}}",
            "0".repeat(64)
        )),
        service("{build: ., image: 'a:${NONE?why}'}"),
        service("{build: ., image: 'a:$5'}"),
        service("extends: {file: common.yaml, service: web}"),
        service("extends: gone"),
        service("extends: web"),
        "services:\n  A: {build: .}\n".to_owned(),
        "services:\n  a: {build: a, image: x}\n  b: {build: b, image: x}\n".to_owned(),
        "services: {a: {build: 1}}\nsecrets: 7\nservices: {}\n".to_owned(),
    ];
    let mut all = String::new();
    for text in &cases {
        let error = read(&[text]).expect_err(text);
        for diagnostic in &error {
            assert!(!diagnostic.help.is_empty(), "{diagnostic}");
            assert!(!diagnostic.message.ends_with('.'), "{diagnostic}");
        }
        all.push_str(&format!("{error}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_wrong_in_a_later_file_is_shown_there() {
    let base = "services: {a: {build: a, image: a}}";
    let error = read(&[base, "services:\n  a: {build: {target: '$1'}}\n"]).unwrap_err();
    assert!(error.to_string().starts_with("1.yaml:2:24: "), "{error}");
    let wanted = read_in("f", &[base], &["b"], None).unwrap_err();
    insta::assert_snapshot!(wanted.to_string());
}

#[test]
fn a_missing_spec_says_where_it_was_looked_for() {
    let text = "name: p\nservices:\n  a: {build: dir}\n  b: {build: {context: dir, dockerfile: Dockerfile.prod}}\n  c: {build: {context: dir, dockerfile: app.yml}}\n  d: {build: {x-boxwright: x.yaml}}\n  e: {build: {}}\n";
    let composition = read(&[text]).unwrap();
    let missing = composition.images.iter();
    let missing: Vec<String> = missing
        .map(|image| image.spec.missing.to_string())
        .collect();
    insta::assert_snapshot!(missing.join("\n"));
}
