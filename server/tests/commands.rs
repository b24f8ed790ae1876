//! The `ssd` command as a shell user meets it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use state_dict::{NewTensor, StateDict, write_safetensors};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// The command in the repository's top folder, without the settings of the person who runs the tests.
fn ssd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssd"));
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for setting in ssd_server::config::ALL {
        command.env_remove(setting.variable);
    }
    command.env_remove(ssd_server::config::FILE_VARIABLE);
    // The precision of the golden files, whatever suits this machine; and a free port.
    command.env("PRECISION", "f32").env("PORT", "0");
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn inspect(path: &Path) -> Value {
    let (code, output, errors) = run(&mut ssd(&["inspect", "--json", path.to_str().unwrap()]));
    assert_eq!((code, errors.as_str()), (0, ""));
    serde_json::from_str(&output).unwrap()
}

#[test]
fn help_documents_every_setting_with_its_default() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let (code, help, _) = run(&mut ssd(arguments));
        assert_eq!(code, 0);
        for setting in ssd_server::config::ALL {
            assert!(help.contains(setting.variable), "{}", setting.variable);
            assert!(
                help.contains(&format!("[default: {}", setting.default))
                    || setting.default.is_empty()
            );
        }
    }
}

#[test]
fn the_readme_s_table_of_settings_is_the_program_s() {
    let (_, table, _) = run(&mut ssd(&["settings"]));
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(&table),
        "run `make docs` and commit README.md"
    );
}

#[test]
fn the_programs_in_the_document_for_clients_are_those_that_ci_runs() {
    let document = include_str!("../../docs/clients.md");
    for program in [
        include_str!("../examples/client.sh"),
        include_str!("../examples/client.py"),
        include_str!("../examples/client.mjs"),
        include_str!("../examples/client.rs"),
    ] {
        assert!(
            document.contains(&format!("\n{program}```\n")),
            "run `make docs` and commit docs/clients.md"
        );
    }
}

#[test]
fn the_readme_s_example_gets_the_response_that_it_shows() {
    let readme = include_str!("../../README.md");
    let shown = readme
        .split("```json\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let shown: Value = serde_json::from_str(shown).unwrap();
    let mut command = ssd(&["predict", "--json", "data/samples/cat.png"]);
    command.env("WEIGHTS_PATH", "weights/ssd_mobilenet_v2_oidv4.safetensors");
    let prediction: Value = serde_json::from_str(&run(&mut command).1).unwrap();
    assert_eq!(
        (&prediction["model"], &prediction["image"]),
        (&shown["model"], &shown["image"])
    );
    let [ours, theirs] =
        [&prediction, &shown].map(|prediction| prediction["predictions"].as_array().unwrap());
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(
            ours["label"], theirs["label"],
            "run `make docs` and commit README.md"
        );
        // Processors differ in the last digits.
        let near = |a: &Value, b: &Value, most: f64| {
            (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < most
        };
        assert!(near(&ours["probability"], &theirs["probability"], 0.001));
        for side in ["x", "y", "width", "height"] {
            assert!(near(&ours["box"][side], &theirs["box"][side], 0.5));
        }
    }
}

#[test]
fn openapi_prints_the_committed_document() {
    let (code, document, _) = run(&mut ssd(&["openapi"]));
    assert_eq!(
        (code, document.as_str()),
        (0, include_str!("../openapi.json"))
    );
}

#[test]
fn predict_prints_the_api_s_json_one_object_a_picture() {
    let cat = data("cat.png");
    let cat = cat.to_str().unwrap();
    let printed = |more: &[&str]| {
        let mut command = ssd(&["predict", cat, cat]);
        let command = command.env("WEIGHTS_PATH", data("small.safetensors"));
        let (code, output, errors) = run(command.args(more));
        assert_eq!((code, errors.as_str()), (0, ""));
        output
    };
    let output = printed(&["--format", "json"]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, lines[1]));
    let prediction: Value = serde_json::from_str(lines[0]).unwrap();
    let members: Vec<&String> = prediction.as_object().unwrap().keys().collect();
    assert_eq!(members, ["file", "model", "image", "predictions"]);
    assert_eq!(
        (&prediction["file"], &prediction["model"]),
        (&cat.into(), &"small".into())
    );
    // A pipe is read by a program.
    assert_eq!(printed(&[]), output);
    assert_eq!(printed(&["--json"]), output);
    assert_eq!(
        prediction["image"],
        serde_json::json!({"width": 451, "height": 300})
    );
    assert_eq!(prediction["predictions"].as_array().unwrap().len(), 108);
}

#[test]
fn predict_names_the_files_that_it_cannot_use_and_goes_on_with_the_rest() {
    let cat = data("cat.png");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let arguments = [
        "predict",
        "--format=table",
        "nowhere.jpg",
        readme.to_str().unwrap(),
        cat.to_str().unwrap(),
    ];
    let mut command = ssd(&arguments);
    let (code, output, errors) = run(command.env("WEIGHTS_PATH", data("small.safetensors")));
    assert_eq!(code, 1);
    assert!(output.contains("cat.png (451 x 300)"), "{output}");
    assert!(
        errors.contains("ssd: nowhere.jpg: cannot read the file"),
        "{errors}"
    );
    assert!(
        errors.contains("Cargo.toml: the bytes are not a picture"),
        "{errors}"
    );
}

#[test]
fn predict_takes_its_criteria_from_the_settings() {
    let cat = data("cat.png");
    let mut command = ssd(&["predict", "--json", cat.to_str().unwrap()]);
    command
        .env("WEIGHTS_PATH", data("small.safetensors"))
        .env("TOP_K", "3");
    let prediction: Value = serde_json::from_str(&run(&mut command).1).unwrap();
    assert_eq!(prediction["predictions"].as_array().unwrap().len(), 3);
}

#[test]
fn predict_shows_a_table_on_a_terminal() {
    let (mut user, slave) = terminal();
    let mut command = ssd(&["predict", "data/samples/astronaut.jpg"]);
    command
        .env("WEIGHTS_PATH", "weights/ssd_mobilenet_v2_oidv4.safetensors")
        .env("THRESHOLD", "0.05")
        .env("TOP_K", "2")
        .stdout(slave);
    let mut process = command.spawn().unwrap();
    // The terminal ends when its other side is closed.
    drop(command);
    let mut shown = Vec::new();
    let _ = user.read_to_end(&mut shown);
    assert!(process.wait().unwrap().success());
    let shown = String::from_utf8(shown).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 4, "{shown}");
    assert_eq!(lines[0], "data/samples/astronaut.jpg (512 x 512)");
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let header = ["label", "probability", "x", "y", "width", "height"];
    assert_eq!(words(lines[1]), header);
    assert_eq!(words(lines[2])[..3], ["person", "60.9", "%"]);
}

#[test]
fn colours_are_for_terminals_and_where_they_are_forced() {
    let warned = |no_color: Option<&str>| {
        let (mut user, slave) = terminal();
        // It warns of the well-known password, and then finds no weights.
        let mut command = ssd(&[]);
        command
            .env("WEIGHTS_PATH", "server")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE")
            .stderr(slave);
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let mut process = command.spawn().unwrap();
        drop(command);
        let mut shown = Vec::new();
        let _ = user.read_to_end(&mut shown);
        assert_eq!(process.wait().unwrap().code(), Some(1));
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("WARN"), "{shown}");
        shown.contains("\x1b[")
    };
    assert!(warned(None));
    assert!(!warned(Some("1")));
}

#[test]
fn standard_input_is_a_picture_or_weights_where_a_dash_stands_for_a_file() {
    let mut command = ssd(&["predict", "-"]);
    command
        .env("WEIGHTS_PATH", data("small.safetensors"))
        .stdin(File::open(data("cat.png")).unwrap());
    let (code, output, errors) = run(&mut command);
    assert_eq!((code, errors.as_str()), (0, ""));
    let prediction: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&prediction["file"], &prediction["image"]["width"]),
        (&"-".into(), &451.into())
    );

    let mut command = ssd(&["inspect", "--json", "-"]);
    let weights = data("small.safetensors");
    let (_, piped, _) = run(command.stdin(File::open(&weights).unwrap()));
    assert_eq!(
        serde_json::from_str::<Value>(&piped).unwrap(),
        inspect(&weights)
    );
    let (code, _, errors) = run(ssd(&["inspect", "-"]).stdin(Stdio::null()));
    assert_eq!(code, 1);
    assert!(errors.starts_with("ssd: standard input: "), "{errors}");
}

#[test]
fn predict_draws_into_copies_in_a_folder_that_keep_the_name_and_the_kind() {
    let folder = tempfile::tempdir().unwrap();
    let album = folder.path().join("new/album");
    let cat = data("cat.png");
    let jpeg = data("pictures/exif6.jpg");
    let bitmap = data("pictures/rgb.bmp");
    let mut command = predict_into(&album, &[&cat, &jpeg, &bitmap]);
    let (code, output, errors) = run(&mut command);
    assert_eq!((code, errors.as_str(), output.lines().count()), (0, "", 3));
    assert_eq!(names(&album), ["cat.png", "exif6.jpg", "rgb.png"]);
    for (name, size) in [
        ("cat.png", (451, 300)),
        ("exif6.jpg", (90, 60)),
        ("rgb.png", (90, 60)),
    ] {
        let bytes = std::fs::read(album.join(name)).unwrap();
        let format = image::guess_format(&bytes).unwrap();
        assert!(format.extensions_str().contains(&&name[name.len() - 3..]));
        let shown = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), size);
    }
    let original = image::open(&cat).unwrap().into_rgb8();
    let shown = image::open(album.join("cat.png")).unwrap().into_rgb8();
    assert!(shown != original);
}

#[test]
fn predict_writes_over_no_picture_that_is_read_or_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let album = folder.path();
    let picture = album.join("cat.png");
    std::fs::copy(data("pictures/reference.png"), &picture).unwrap();
    let before = std::fs::read(&picture).unwrap();
    let refused = |pictures: &[&Path], more: &[&str], expected: &str| {
        let (code, _, errors) = run(predict_into(album, pictures).args(more));
        assert_eq!(code, 1);
        assert!(errors.contains(expected), "{errors}");
    };
    // Itself, whatever is said.
    let is_input = "cat.png is one of the given pictures; give another folder";
    refused(&[&picture], &[], is_input);
    refused(&[&picture], &["--force"], is_input);
    // A file of another program is replaced only with --force.
    refused(
        &[&data("cat.png")],
        &[],
        "cat.png exists; give --force to replace it",
    );
    assert_eq!(std::fs::read(&picture).unwrap(), before);
    assert_eq!(
        run(predict_into(album, &[&data("cat.png")]).arg("--force")).0,
        0
    );
    assert_ne!(std::fs::read(&picture).unwrap(), before);
    // Another of the same name.
    let (one, other) = (data("pictures/rgb.bmp"), album.join("elsewhere/rgb.png"));
    std::fs::create_dir(album.join("elsewhere")).unwrap();
    std::fs::copy(data("pictures/reference.png"), &other).unwrap();
    let taken = format!(
        "rgb.png already holds the annotated copy of {}",
        one.display()
    );
    refused(&[&one, &other], &["--force"], &taken);
    assert_eq!(names(album), ["cat.png", "elsewhere", "rgb.png"]);
}

fn predict_into(album: &Path, pictures: &[&Path]) -> Command {
    let mut command = ssd(&["predict", "--annotate"]);
    command.arg(album).args(pictures);
    command.env("WEIGHTS_PATH", data("small.safetensors"));
    command
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_version_tells_the_revision_and_libtorch_s() {
    let (code, version, _) = run(&mut ssd(&["--version"]));
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{version}");
    assert_eq!(lines[0], concat!("ssd ", env!("CARGO_PKG_VERSION")));
    let revision = lines[1].strip_prefix("revision ").unwrap();
    let hash = revision.split('-').next().unwrap();
    assert!(
        revision == "unknown" || hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "{revision}"
    );
    let pinned = include_str!("../../ci/libtorch.txt");
    let libtorch = lines[2].strip_prefix("libtorch ").unwrap();
    assert!(
        pinned.contains(&format!("torch=={libtorch} ")),
        "{libtorch}"
    );
    assert_eq!(run(&mut ssd(&["-V"])).1, format!("{}\n", lines[0]));
}

#[test]
fn completions_know_every_command_in_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, errors) = run(&mut ssd(&["completions", shell]));
        assert_eq!((code, errors.as_str()), (0, ""));
        for word in ["predict", "calibrate", "annotate", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    // What bash makes of it.
    let script = format!(
        "source <({} completions bash); COMP_WORDS=(ssd pre); COMP_CWORD=1; _ssd ssd pre ssd; \
         echo \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_ssd")
    );
    let (code, completed, errors) = run(Command::new("bash").args(["-c", &script]));
    assert_eq!(
        (code, completed.as_str(), errors.as_str()),
        (0, "predict\n", "")
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let (code, page, _) = run(&mut ssd(&["man"]));
    assert_eq!(code, 0);
    assert!(
        page.contains(".TH ssd 1") && page.contains("REQUEST_TIMEOUT"),
        "{page}"
    );
    let (code, page, _) = run(&mut ssd(&["man", "predict"]));
    assert_eq!(code, 0);
    assert!(
        page.contains(".TH ssd-predict 1") && page.contains("annotate"),
        "{page}"
    );
    let (code, _, errors) = run(&mut ssd(&["man", "bake"]));
    let expected = "ssd: there is no command `bake`; see ssd --help\n";
    assert_eq!((code, errors.as_str()), (1, expected));
}

#[test]
fn wrong_arguments_are_exit_code_2_and_a_full_disk_is_1() {
    for arguments in [
        &["predict"][..],
        &["predict", "--format", "xml", "a.jpg"],
        &["predict", "--force", "a.jpg"],
        &["completions", "tcsh"],
    ] {
        assert_eq!(run(&mut ssd(arguments)).0, 2, "{arguments:?}");
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (code, _, errors) = run(ssd(&["openapi"]).stdout(full));
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("ssd: cannot write to standard output: "),
        "{errors}"
    );
}

#[test]
fn an_error_on_a_closed_standard_error_is_still_an_exit_code() {
    let mut command = ssd(&["inspect", "nowhere.pth"]);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stderr.take());
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

/// The two sides of a terminal: its user's, the program's.
fn terminal() -> (File, OwnedFd) {
    let pty = nix::pty::openpty(None, None).unwrap();
    (pty.master.into(), pty.slave)
}

#[test]
fn inspect_tells_the_same_of_the_three_forms_of_one_model() {
    let forms =
        ["small-legacy.pth", "small-zip.pth", "small.safetensors"].map(|name| inspect(&data(name)));
    assert_eq!(forms[0]["format"], "pth-legacy");
    assert_eq!(forms[1]["format"], "pth-zip");
    assert_eq!(forms[2]["format"], "safetensors");
    let tensors = |form: &Value| {
        let mut rows = form["tensors"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row["name"].as_str().unwrap().to_owned());
        rows
    };
    for form in &forms {
        assert_eq!(form["family"], "ssd300-voc");
        assert_eq!(form["classes"][14], "person");
        assert_eq!(tensors(form), tensors(&forms[0]));
    }
    let first = &tensors(&forms[0])[0];
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["name", "shape", "dtype", "min", "max", "mean", "non_finite"]
    );
    assert_eq!(first["dtype"], "float32");
}

#[test]
fn inspect_reads_any_state_dict() {
    let other = inspect(&data("variants-zip-protocol5.pth"));
    assert_eq!(other["family"], Value::Null);
    assert!(!other["tensors"].as_array().unwrap().is_empty());
    let (code, text, _) = run(&mut ssd(&[
        "inspect",
        data("variants.safetensors").to_str().unwrap(),
    ]));
    assert_eq!(code, 0);
    assert!(
        text.starts_with("format: safetensors\nfamily: unknown\n"),
        "{text}"
    );
}

#[test]
fn convert_keeps_every_tensor_and_says_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("small.safetensors");
    let input = data("small-legacy.pth");
    let arguments = ["convert", input.to_str().unwrap(), output.to_str().unwrap()];
    let (code, said, errors) = run(&mut ssd(&arguments));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(said.ends_with("small.safetensors: 71 tensors\n"), "{said}");
    let converted = inspect(&output);
    assert_eq!(converted["format"], "safetensors");
    assert_eq!(converted["metadata"]["family"], "ssd300-voc");
    assert_eq!(converted["classes"], inspect(&input)["classes"]);
    assert_eq!(converted["tensors"].as_array().unwrap().len(), 71);

    let (code, _, errors) = run(&mut ssd(&arguments));
    assert_eq!(code, 1);
    assert!(
        errors.contains("exists; give --force to replace it"),
        "{errors}"
    );
    assert_eq!(run(ssd(&arguments).arg("--force")).0, 0);
}

/// A checkpoint of two state dicts: `ema`, which detects nothing, then `model`.
fn checkpoint(folder: &Path) -> PathBuf {
    let state = StateDict::open(&data("small.safetensors")).unwrap();
    let entry = |entry: &'static str| {
        state.tensors().map(move |tensor| {
            let mut new = NewTensor::from(tensor);
            if entry == "ema" && tensor.name().starts_with("conf.") {
                // Equal scores for all classes.
                new.bytes = vec![0; new.bytes.len()].into();
            }
            new.name = format!("{entry}.{}", tensor.name()).into();
            new
        })
    };
    let path = folder.join("checkpoint.safetensors");
    let tensors = entry("ema").chain(entry("model")).collect();
    write_safetensors(&path, tensors, &[].into()).unwrap();
    path
}

#[test]
fn one_of_several_state_dicts_is_used_told_and_selected_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path());
    let with_entry = |entry: &str| format!("{}#{entry}", path.display());
    let note = "of 2 state dicts in the file, `model` is used; the others are `ema`. To select one: \
                `checkpoint.safetensors#ema`";
    let predict = |weights: &str| {
        let mut command = ssd(&["predict", "--json", data("cat.png").to_str().unwrap()]);
        let (code, output, errors) = run(command.env("WEIGHTS_PATH", weights));
        assert_eq!(code, 0, "{errors}");
        let prediction: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(prediction["model"], "checkpoint");
        (prediction["predictions"].as_array().unwrap().len(), errors)
    };
    let (found, errors) = predict(path.to_str().unwrap());
    assert!(found > 0 && errors.contains(note), "{found}: {errors}");
    assert_eq!(predict(&with_entry("ema")), (0, String::new()));
    assert_eq!(predict(&with_entry("model")), (found, String::new()));

    assert_eq!(inspect(&path)["notes"], serde_json::json!([note]));
    let ema = inspect(Path::new(&with_entry("ema")));
    assert_eq!(ema["notes"], serde_json::json!([]));
    assert_eq!(ema["family"], "ssd300-voc");
    assert_eq!(ema["tensors"].as_array().unwrap().len(), 71);
    let mut names = ema["tensors"].as_array().unwrap().iter();
    assert!(names.any(|tensor| tensor["name"] == "vgg.0.weight"));
    let (_, text, _) = run(&mut ssd(&["inspect", path.to_str().unwrap()]));
    assert!(text.contains(&format!("\nnote: {note}\n")), "{text}");

    let output = folder.path().join("ema.safetensors");
    let output = output.to_str().unwrap();
    let (code, said, _) = run(&mut ssd(&["convert", &with_entry("ema"), output]));
    assert_eq!(code, 0);
    assert!(said.ends_with("ema.safetensors: 71 tensors\n"), "{said}");
    assert_eq!(inspect(Path::new(output))["tensors"], ema["tensors"]);

    let wrong = with_entry("emma");
    let cat = data("cat.png");
    let cat = cat.to_str().unwrap();
    for arguments in [
        &["inspect", &wrong][..],
        &["convert", &wrong, "/tmp/never-written.safetensors"],
        &[
            "calibrate",
            &wrong,
            cat,
            "-o",
            "/tmp/never-written.safetensors",
        ],
        &["predict", cat],
    ] {
        let (code, _, errors) = run(ssd(arguments).env("WEIGHTS_PATH", &wrong));
        assert_eq!(code, 1);
        let expected = "checkpoint.safetensors: it has no tensors under `emma`";
        assert!(errors.contains(expected), "{errors}");
    }
    let (_, _, errors) = run(ssd(&["serve"]).env("WEIGHTS_PATH", "/nowhere.pth#ema"));
    assert_eq!(
        errors,
        "ssd: WEIGHTS_PATH is /nowhere.pth#ema: no such file\n"
    );
}

#[test]
fn objects_in_a_checkpoint_are_skipped_and_told() {
    let checkpoint = data("checkpoint-zip-protocol2.pth");
    let told = "skipped unread, and nothing was run: `argparse.Namespace`, ";
    let report = inspect(&checkpoint);
    assert_eq!(report["tensors"].as_array().unwrap().len(), 5);
    let note = report["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with(told) && note.contains("; in the entries `args`, `best`, "),
        "{note}"
    );
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.safetensors");
    let input = format!("{}#model", checkpoint.display());
    let (code, _, errors) = run(&mut ssd(&["convert", &input, output.to_str().unwrap()]));
    assert_eq!(code, 0);
    assert!(errors.starts_with(&format!("ssd: {told}")), "{errors}");
    assert_eq!(StateDict::open(&output).unwrap().len(), 2);
}

#[test]
fn files_that_are_no_weights_are_refused_in_one_message_and_exit_code_1() {
    for command in ["inspect", "convert"] {
        let mut arguments = vec![command, "README.md"];
        if command == "convert" {
            arguments.push("/tmp/never-written.safetensors");
        }
        let (code, output, errors) = run(&mut ssd(&arguments));
        assert_eq!((code, output.as_str()), (1, ""));
        assert!(
            errors.starts_with("ssd: README.md: not a file of weights"),
            "{errors}"
        );
    }
}

#[test]
fn names_in_a_file_of_weights_are_shown_and_not_obeyed() {
    let header = r#"{"vgg.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "\u001b]0;owned\u0007\nssd: ready":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [&length, header.as_bytes(), &[0; 8]].concat()).unwrap();
    let (code, _, errors) =
        run(ssd(&["predict", "data/samples/cat.png"]).env("WEIGHTS_PATH", file.path()));
    assert_eq!(code, 1);
    assert!(
        errors.contains(r"unexpected: `\u{1b}]0;owned\u{7}\nssd: ready` [1]"),
        "{errors}"
    );
    assert!(
        !errors.contains('\u{1b}') && !errors.contains("\nssd: ready"),
        "{errors}"
    );
}

#[test]
fn start_up_is_stopped_by_a_bad_setting_or_a_missing_file_with_one_line() {
    let cases = [
        (
            "PORT",
            "80a",
            "ssd: PORT is `80a`; it accepts a whole number from 0 to 65535\n",
        ),
        (
            "WEIGHTS_PATH",
            "/nowhere.pth",
            "ssd: WEIGHTS_PATH is /nowhere.pth: no such file\n",
        ),
        (
            "WEIGHTS_PATH",
            "README.md/model.pth",
            "ssd: WEIGHTS_PATH is README.md/model.pth: Not a directory (os error 20)\n",
        ),
    ];
    for (variable, value, expected) in cases {
        let (code, _, errors) = run(ssd(&["serve"]).env(variable, value));
        assert_eq!((code, errors.as_str()), (1, expected));
    }
    let mut labels = ssd(&[]);
    labels.env("COCO_LABELS_PATH", "README.md").env("PORT", "0");
    let (code, _, errors) = run(labels.env("WEIGHTS_PATH", data("small.safetensors")));
    assert_eq!(code, 1);
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("ssd: labels README.md: line "), "{last}");
}

#[test]
fn where_no_weights_are_named_those_in_the_folder_are_sought_and_a_failure_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let labels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/coco_labels.txt");
    let started = || {
        let mut command = ssd(&["serve"]);
        run(command
            .env("COCO_LABELS_PATH", &labels)
            .current_dir(folder.path()))
    };
    let (code, _, errors) = started();
    assert_eq!(code, 1);
    assert!(errors.starts_with("ssd: neither weights/"), "{errors}");
    // Whether there are any cannot be told: that is not the same as that there are none.
    std::fs::write(folder.path().join("weights"), "").unwrap();
    let (code, _, errors) = started();
    assert_eq!(code, 1);
    let last = errors.lines().last().unwrap();
    assert!(last.contains("weights/ssd300_mAP_77.43_v2.pth"), "{last}");
    assert!(last.contains("Not a directory"), "{last}");
}

#[test]
fn weights_of_another_network_are_refused_with_every_tensor_that_is_wrong() {
    let mut command = ssd(&["serve"]);
    command
        .env("PORT", "0")
        .env("WEIGHTS_PATH", data("variants.safetensors"));
    let (code, _, errors) = run(&mut command);
    assert_eq!(code, 1);
    assert!(
        errors.contains(
            "not the weights of a known network: none of its 30 tensors is called `vgg.0.weight`"
        ),
        "{errors}"
    );
}

/// A server that has started, and its log lines up to the last of start-up. It ends with the test.
struct Server {
    process: std::process::Child,
    log: BufReader<std::process::ChildStderr>,
    start_up: Vec<String>,
}

impl Server {
    fn start(changes: &[(&str, &str)]) -> Self {
        Self::start_by("http", changes)
    }

    fn start_by(scheme: &str, changes: &[(&str, &str)]) -> Self {
        let mut command = ssd(&[]);
        command
            .env("PORT", "0")
            .env("WEIGHTS_PATH", data("small.safetensors"))
            .envs(changes.iter().copied())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut server = Self {
            log: BufReader::new(process.stderr.take().unwrap()),
            process,
            start_up: Vec::new(),
        };
        while !server
            .start_up
            .iter()
            .any(|line| line.contains(&format!("Running on {scheme}://")))
        {
            let mut line = String::new();
            let count = server.log.read_line(&mut line).unwrap();
            assert!(count > 0, "ended after {:?}", server.start_up);
            server.start_up.push(line);
        }
        server
    }

    fn connect(&self) -> TcpStream {
        let last = self.start_up.last().unwrap();
        let address = last.split("http://").nth(1).unwrap();
        TcpStream::connect(address.trim_end().trim_end_matches('/')).unwrap()
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        line
    }

    /// The metrics. Asks again while the server has no descriptor for the connection.
    fn metrics(&self) -> String {
        let mut start_up = self.start_up.iter();
        let url = start_up.find_map(|line| line.split("metrics on http://").nth(1));
        let address = url.unwrap().trim_end().trim_end_matches("/metrics");
        let ask = || {
            let mut client = TcpStream::connect(address)?;
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n")?;
            let mut response = String::new();
            client.read_to_string(&mut response)?;
            std::io::Result::Ok(response)
        };
        for _ in 0..500 {
            if let Ok(response) = ask()
                && !response.is_empty()
            {
                return response;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("no metrics")
    }

    /// The log's line of the next request that it tells, after asking for these paths in turn.
    fn line_after_asking_for(&mut self, paths: &[&str]) -> String {
        for path in paths {
            let mut client = self.connect();
            let request = format!("GET {path} HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            client.read_to_end(&mut Vec::new()).unwrap();
        }
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_model_that_ships_is_the_default_and_brings_its_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Downloaded published weights would come first.
    for name in ["data", "weights"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in [
        "data/coco_labels.txt",
        "weights/ssd_mobilenet_v2_oidv4.safetensors",
    ] {
        std::os::unix::fs::symlink(top.join(name), folder.path().join(name)).unwrap();
    }
    let cat = data("cat.png");
    let prediction = |threshold: Option<&str>| {
        let mut command = ssd(&["predict", "--json", cat.to_str().unwrap()]);
        command.current_dir(folder.path());
        command.envs(threshold.map(|threshold| ("THRESHOLD", threshold)));
        serde_json::from_str::<Value>(&run(&mut command).1).unwrap()
    };
    for threshold in [None, Some("auto"), Some("0.8")] {
        let prediction = prediction(threshold);
        assert_eq!(prediction["model"], "ssd_mobilenet_v2_oidv4");
        let found = prediction["predictions"].as_array().unwrap();
        assert_eq!(
            (found.len(), &found[0]["label"]),
            (1, &"cat".into()),
            "{prediction}"
        );
    }
    // The weights' own is 0.5, not SSD300's 0.6.
    let sure = prediction(Some("0.9"));
    assert_eq!(sure["predictions"], serde_json::json!([]));
    let astronaut = top.join("data/samples/astronaut.jpg");
    let mut command = ssd(&["predict", "--json", astronaut.to_str().unwrap()]);
    let command = command.current_dir(folder.path()).env("TOP_K", "9");
    let probability = |command: &mut Command| {
        let prediction: Value = serde_json::from_str(&run(command).1).unwrap();
        prediction["predictions"].as_array().unwrap().len()
    };
    assert_eq!(probability(command), 1);
    assert_eq!(probability(command.env("THRESHOLD", "0.65")), 0);
}

#[test]
fn the_classes_that_weights_name_are_their_labels_unless_a_list_is_given() {
    let state = StateDict::open(&data("small.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let list = folder.path().join("list.txt");
    let own: Vec<String> = (1..=20).map(|class| format!("part {class}")).collect();
    let metadata = [("classes".to_owned(), serde_json::to_string(&own).unwrap())].into();
    let tensors = state.tensors().map(NewTensor::from).collect();
    write_safetensors(&path, tensors, &metadata).unwrap();
    let cat = data("cat.png");
    let prediction = |labels: Option<&str>| {
        let mut command = ssd(&["predict", "--json", cat.to_str().unwrap()]);
        command.env("WEIGHTS_PATH", &path);
        if let Some(labels) = labels {
            std::fs::write(&list, labels).unwrap();
            command.env("COCO_LABELS_PATH", &list);
        }
        run(&mut command)
    };
    let labels = |(code, output, errors): (i32, String, String)| {
        assert_eq!(code, 0, "{errors}");
        let prediction: Value = serde_json::from_str(&output).unwrap();
        let found = prediction["predictions"].as_array().unwrap().clone();
        let label = |one: &Value| one["label"].as_str().unwrap().to_owned();
        found.iter().map(label).collect::<Vec<_>>()
    };
    // The lab's list has none of the names, and counts as the default wherever it is.
    let lab = include_str!("../../data/coco_labels.txt");
    for given in [None, Some(lab)] {
        let found = labels(prediction(given));
        assert!(!found.is_empty() && found.iter().all(|label| own.contains(label)));
    }
    let renamed = |line: fn(usize) -> String| (1..=20).map(line).collect::<String>();
    for list in [
        renamed(|class| format!("piece {class}\n")),
        renamed(|class| format!("{class}: \"piece {class}\"\n")),
        format!(
            "[\"background\"{}]",
            renamed(|class| format!(", \"piece {class}\""))
        ),
    ] {
        let found = labels(prediction(Some(&list)));
        assert!(!found.is_empty() && found.iter().all(|label| label.starts_with("piece ")));
    }
    let (code, _, errors) = prediction(Some("fox\nwolf\n"));
    assert_eq!(code, 1);
    assert!(
        errors.contains("it has 2 labels, but the model has 20 classes"),
        "{errors}"
    );
}

#[test]
fn a_threshold_that_weights_cannot_mean_is_refused() {
    let state = StateDict::open(&data("small.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    for threshold in ["1.5", "-1", "NaN", "half", ""] {
        let metadata = [("threshold".to_owned(), threshold.to_owned())].into();
        let tensors = state.tensors().map(NewTensor::from).collect();
        write_safetensors(&path, tensors, &metadata).unwrap();
        let mut command = ssd(&["predict", data("cat.png").to_str().unwrap()]);
        let (code, _, errors) = run(command.env("WEIGHTS_PATH", &path));
        assert_eq!(code, 1);
        let complaint =
            format!("its metadata `threshold` is `{threshold}`, which is not a number from 0 to 1");
        assert!(errors.contains(&complaint), "{errors}");
    }
}

#[test]
fn signals_end_the_server_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let kill = Command::new("kill")
            .args(["-s", signal, &server.process.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        assert_eq!(server.process.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        server.log.read_to_string(&mut rest).unwrap();
        let last = rest.lines().last().unwrap();
        assert!(
            last.contains("stopped; every request got its response"),
            "{rest}"
        );
    }
}

#[test]
fn the_log_of_start_up_tells_the_labels_warns_of_the_known_login_and_ends_with_the_address() {
    let server = Server::start(&[]);
    let log = server.start_up.concat();
    assert!(
        log.contains("WARN") && log.contains("set SECRET_USERNAME and SECRET_PASSWORD"),
        "{log}"
    );
    assert!(log.contains("labels matched by name"), "{log}");
    assert!(
        log.contains("data/coco_labels.txt") && log.contains("count=80 classes=20"),
        "{log}"
    );
    assert!(
        log.contains("detects 20 classes: airplane, bicycle, bird,"),
        "{log}"
    );
    assert!(
        log.contains("threshold=0.6") && !log.contains("threshold=0.60"),
        "{log}"
    );
    assert!(
        server
            .start_up
            .last()
            .unwrap()
            .contains("Running on http://127.0.0.1:"),
        "{log}"
    );
}

#[test]
fn the_log_of_start_up_tells_which_of_several_state_dicts_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = checkpoint(folder.path());
    let log = |weights: &str| {
        Server::start(&[("WEIGHTS_PATH", weights)])
            .start_up
            .concat()
    };
    let note = "of 2 state dicts in the file, `model` is used; the others are `ema`";
    assert!(log(path.to_str().unwrap()).contains(note));
    assert!(!log(&format!("{}#ema", path.display())).contains("state dicts"));
}

#[test]
fn a_renewed_certificate_that_cannot_be_used_or_read_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let mut server = Server::start_by(
        "https",
        &[
            ("TLS_CERTIFICATE_PATH", certificate.to_str().unwrap()),
            ("TLS_KEY_PATH", key.to_str().unwrap()),
        ],
    );
    std::fs::write(&key, "not yet").unwrap();
    let line = server.next_line();
    assert!(
        line.contains("WARN the certificate was not renewed"),
        "{line}"
    );
    assert!(line.contains("the file contains no PRIVATE KEY"), "{line}");

    // Opening this for reading waits for a writer.
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    std::fs::rename(&fifo, &key).unwrap();
    let line = server.next_line();
    assert!(
        line.contains("WARN reading the certificate and its key has stalled"),
        "{line}"
    );
}

#[test]
fn a_client_that_hangs_up_has_its_line_in_the_log() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    let cat = std::fs::read(data("cat.png")).unwrap();
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: ssd\r\nAuthorization: Basic dWdhaW46dWdhaW4=\r\n\
         Content-Type: image/png\r\nContent-Length: {}\r\n\r\n",
        cat.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&cat).unwrap();
    drop(client);
    let mut line = String::new();
    server.log.read_line(&mut line).unwrap();
    assert!(
        line.contains("method=\"POST\" route=\"/predict\" status=499"),
        "{line}"
    );
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_server_at_rest_gives_back_what_large_pictures_took() {
    let resident = |server: &Server| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib / 1024
    };
    let server = Server::start(&[]);
    let before = resident(&server);
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(3000, 2000)
        .write_to(&mut picture, image::ImageFormat::Jpeg)
        .unwrap();
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: ssd\r\nAuthorization: Basic dWdhaW46dWdhaW4=\r\n\
         Content-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        picture.get_ref().len()
    );
    // Decoded on several threads at a time: each of them used to keep what a picture takes, 17 MiB.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let mut client = server.connect();
                    client.write_all(head.as_bytes()).unwrap();
                    client.write_all(picture.get_ref()).unwrap();
                    let mut response = String::new();
                    client.read_to_string(&mut response).unwrap();
                    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
                }
            });
        }
    });
    // After five seconds; a slow machine may take longer.
    let patience = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while resident(&server) > before + 16 && std::time::Instant::now() < patience {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let after = resident(&server);
    assert!(after <= before + 16, "{before} MiB, then {after}");
}

#[test]
fn probes_that_find_all_well_are_in_the_log_only_when_it_tells_all() {
    let paths = ["/livez", "/readyz", "/nowhere"];
    let line = Server::start(&[]).line_after_asking_for(&paths);
    assert!(line.contains("status=404"), "{line}");
    let line = Server::start(&[("LOG_FILTER", "debug")]).line_after_asking_for(&paths);
    assert!(
        line.contains("DEBUG") && line.contains("route=\"/livez\" status=200"),
        "{line}"
    );
}

#[test]
fn without_descriptors_idle_connections_are_closed_and_the_log_and_metrics_tell() {
    let mut server = Server::start(&[("IDLE_TIMEOUT", "1h"), ("MANAGEMENT_PORT", "0")]);
    let limited = Command::new("prlimit")
        .args(["--nofile=64:64", "--pid", &server.process.id().to_string()])
        .status();
    assert!(limited.unwrap().success());
    let crowd: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let mut last = server.connect();
    last.write_all(b"GET /livez HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    last.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("alive\n"), "{response}");
    drop(crowd);
    let line = server.next_line();
    assert!(
        line.contains("WARN cannot accept a connection error="),
        "{line}"
    );
    let metrics = server.metrics();
    let count = |name: &str| -> u32 {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().parse().unwrap()
    };
    assert!(count("ssd_accept_errors_total ") > 1, "{metrics}");
    assert!(count("ssd_connections_evicted_total ") > 1, "{metrics}");
    // Most of the warnings are suppressed.
    let mut warnings = 1;
    while !server
        .line_after_asking_for(&["/nowhere"])
        .contains("status=404")
    {
        warnings += 1;
    }
    assert!(warnings < count("ssd_accept_errors_total "));
}

#[test]
fn a_head_that_is_not_http_is_one_line_in_the_log() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.write_all(b"BREW\0 / HTTP/1.1\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    let line = server.next_line();
    assert!(
        line.contains("method=\"_OTHER\" route=\"-\" status=400"),
        "{line}"
    );
    let id = line.split("request_id=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap();
    assert!(response.contains(&format!("x-request-id: {id}\r\n")));
}

#[test]
fn an_unknown_method_is_logged_by_one_name() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    let method = "BREW".repeat(5000);
    let request = format!("{method} /docs HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    let mut line = String::new();
    server.log.read_line(&mut line).unwrap();
    assert!(
        line.contains("method=\"_OTHER\" route=\"/docs\" status=405"),
        "{line}"
    );
}

#[test]
fn a_start_up_error_is_logged_once() {
    let (code, _, errors) = run(ssd(&[]).env("PORT", "0").env("WEIGHTS_PATH", "server"));
    let last = errors.lines().last().unwrap();
    assert_eq!(
        (code, last),
        (
            1,
            "ssd: weights server: this is a directory, not a file of weights"
        )
    );
}

#[test]
fn json_logs_are_an_object_a_line_and_no_log_has_the_password() {
    let changes = [
        ("LOG_FORMAT", "json"),
        ("SECRET_PASSWORD", "correct-horse"),
        ("LOG_FILTER", "trace"),
    ];
    for line in &Server::start(&changes).start_up {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(
            event["message"].is_string() && event["level"].is_string(),
            "{line}"
        );
        assert!(!line.contains("correct-horse"));
    }
}

#[test]
fn no_log_of_a_request_has_its_login_its_query_or_its_picture() {
    let login = "dWdhaW46Y29ycmVjdC1ob3JzZQ==";
    let mut server = Server::start(&[
        ("LOG_FILTER", "trace"),
        ("SECRET_PASSWORD", "correct-horse"),
    ]);
    let mut picture = std::fs::read(data("cat.png")).unwrap();
    picture.extend(b"a-secret-after-the-picture");
    let mut client = server.connect();
    let head = format!(
        "POST /predict?top_k=4711 HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\
         Authorization: Basic {login}\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&picture).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    server.process.kill().unwrap();
    let mut log = server.start_up.concat();
    server.log.read_to_string(&mut log).unwrap();
    assert!(log.contains("route=\"/predict\" status=200"), "{log}");
    for secret in [login, "correct-horse", "4711", "a-secret-after", "IHDR"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn the_log_tells_that_the_end_of_a_picture_is_missing() {
    let mut server = Server::start(&[]);
    let picture = std::fs::read(data("pictures/baseline.jpg")).unwrap();
    let whole = &picture[..];
    for (picture, is_told) in [(whole, false), (&whole[..whole.len() - 2], true)] {
        let mut client = server.connect();
        let head = format!(
            "POST /predict HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\
             Authorization: Basic dWdhaW46dWdhaW4=\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            picture.len()
        );
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(picture).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        let line = server.next_line();
        assert!(line.contains("status=200"), "{line}");
        assert_eq!(line.contains("end_missing=true"), is_told, "{line}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut command = ssd(&["openapi"]);
    let mut printing = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(printing.stdout.take());
    let output = printing.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
