//! Builds what a run needs: hubgate itself, the contract hub on ASP.NET Core, YARP. What cannot be built for want of .NET
//! is left out and told; what fails to build ends the run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a build did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} does not build")]
    Failed(String),
    #[error("{name} cannot be built: {error}")]
    Io { name: String, error: std::io::Error },
}

/// Builds the release binary of hubgate and yields its path.
pub(crate) fn hubgate(root: &Path) -> Result<PathBuf, Error> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["build", "--release", "--quiet", "--package", "hubgate", "--bin", "hubgate"]);
    succeed(command, "hubgate")?;
    Ok(target(root).join("release/hubgate"))
}

/// The `dotnet` command of `DOTNET_ROOT` or of the path.
pub(crate) fn dotnet() -> Option<PathBuf> {
    let of_root = std::env::var_os("DOTNET_ROOT").map(|root| PathBuf::from(root).join("dotnet"));
    let candidates = of_root.into_iter().chain([PathBuf::from("dotnet")]);
    candidates
        .into_iter()
        .find(|dotnet| Command::new(dotnet).arg("--version").output().is_ok_and(|out| out.status.success()))
}

/// Builds the contract hub by its own script and yields the application to start.
pub(crate) fn contract_hub(root: &Path) -> Result<PathBuf, Error> {
    let out = target(root).join("aspnet");
    let mut command = Command::new(root.join("fixtures/aspnet/build"));
    command.arg(&out);
    succeed(command, "the contract hub")?;
    Ok(out.join("net10.0/Hubs.dll"))
}

/// Builds YARP into the scratch folder, intermediate files too, and yields the application to start.
pub(crate) fn yarp(dotnet: &Path, root: &Path, scratch: &Path) -> Result<PathBuf, Error> {
    let out = scratch.join("yarp");
    let intermediate = format!("-p:BaseIntermediateOutputPath={}/", scratch.join("yarp-obj").display());
    let mut command = Command::new(dotnet);
    command.args(["build", "--configuration", "Release", "--nologo", "--verbosity", "quiet", &intermediate]);
    command.arg("--output").arg(&out).arg(root.join("benches/peers/yarp/Yarp.csproj"));
    succeed(command, "YARP")?;
    Ok(out.join("Yarp.dll"))
}

/// The folder of built things.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn succeed(mut command: Command, name: &str) -> Result<(), Error> {
    // What the build prints is not part of the report.
    command.stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::Failed(name.to_owned())),
        Err(error) => Err(Error::Io { name: name.to_owned(), error }),
    }
}
