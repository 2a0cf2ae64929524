//! Where the project's things are, asked of cargo.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand, semver::Version};

/// What cargo says about the workspace.
pub struct Workspace {
    metadata: Metadata,
}

impl Workspace {
    /// Asks cargo; dependencies are left out, so nothing is downloaded.
    ///
    /// # Errors
    /// When cargo can't read the workspace.
    pub fn load() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cannot read the workspace")?;
        Ok(Self { metadata })
    }

    /// The directory of the workspace's Cargo.toml.
    pub fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// Where cargo puts what it builds, wherever the user's settings say that is.
    pub fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// The release binary: one file, with the eBPF programs inside it.
    pub fn binary(&self) -> PathBuf {
        self.target().join("release").join("datapath")
    }

    /// The oldest Rust that compiles the project.
    pub fn rust_version(&self) -> Option<&Version> {
        self.metadata
            .packages
            .iter()
            .filter_map(|package| package.rust_version.as_ref())
            .max()
    }
}
