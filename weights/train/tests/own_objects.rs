//! Runs the commands of docs/own-objects.md as they are printed, except those for a cluster, on a synthetic data set.

mod squares;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().unwrap()
}

/// The commands of a document: the lines that start with a prompt.
fn commands(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(document)).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// A checkout in which `cargo run` runs the programs under test without building anything.
struct Checkout {
    folder: tempfile::TempDir,
    port: u16,
}

impl Checkout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(repository()).unwrap() {
            let path = entry.unwrap().path();
            symlink(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_ssd-train")).parent().unwrap();
        assert!(
            programs.join("ssd").exists(),
            "this test needs the server too: cargo build --bin ssd"
        );
        let cargo = format!(
            "#!/usr/bin/env bash\nset -euo pipefail\n\
             if [ \"${{1-}}\" != run ]; then exec '{}' \"$@\"; fi\n\
             while [ \"$1\" != --bin ]; do shift; done\nname=$2\nshift 2\n\
             if [ \"${{1-}}\" = -- ]; then shift; fi\nexec '{}'/\"$name\" \"$@\"\n",
            env!("CARGO"),
            programs.display()
        );
        let path = folder.path().join("bin/cargo");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, cargo).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Self { folder, port }
    }

    fn command(&self, line: &str) -> Command {
        let own = self.folder.path().join("bin");
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c"])
            .arg(line.replace("localhost:5000", &format!("127.0.0.1:{}", self.port)))
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", own.display()))
            .env("PORT", self.port.to_string())
            // A short run, if the command sets no options. Other tests check the accuracy.
            .env("OPTIONS", "--epochs 2")
            .env_remove("MAKEFLAGS");
        command
    }

    fn run(&self, line: &str) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(line).output().unwrap();
        let printed = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(status.success(), "{line}: {printed}");
        printed
    }

    /// Starts a server, and waits until it is ready.
    fn serve(&self, line: &str) -> Server {
        let mut command = self.command(line);
        // In its own process group, so that make's children are stopped too.
        let server = Server(command.process_group(0).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            assert!(Instant::now() < deadline, "{line}: not ready");
            if is_ready(self.port).unwrap_or(false) {
                return server;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.starts_with("HTTP/1.1 200"))
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_of_the_document_that_needs_no_cluster_works_as_described() {
    let checkout = Checkout::new();
    let pictures = checkout.folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    squares::write(&pictures, 20);
    let exists = |name: &str| checkout.folder.path().join(name).exists();
    let (mut server, mut run) = (None, 0);
    for line in commands("docs/own-objects.md") {
        if ["docker", "helm", "mkdir"]
            .iter()
            .any(|word| line.contains(word))
        {
            continue;
        }
        run += 1;
        if line.ends_with("make run") {
            server = Some(checkout.serve(&line));
            continue;
        }
        let printed = checkout.run(&line);
        if line.contains("--check") {
            assert!(
                printed.contains("20 pictures") && !exists("mine.safetensors"),
                "{printed}"
            );
        } else if line.starts_with("make fit") {
            for file in ["mine.safetensors", "mine.sheet.jpg", "mine.svg"] {
                assert!(exists(file), "{file}: {printed}");
            }
        } else if line.starts_with("curl") {
            assert!(printed.contains("\"model\":\"mine\""), "{printed}");
        } else {
            assert!(
                squares::CLASSES.iter().all(|name| printed.contains(name)),
                "{printed}"
            );
        }
    }
    assert!(server.is_some() && run > 5);
}
