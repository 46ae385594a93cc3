//! Secrets given to a command in a file or on its standard input. On the command line, every user of
//! the machine would see them in the list of processes.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::CommandError;

/// What stands for the standard input.
const INPUT: &str = "-";

/// The lines of a file that are not blank, or those of the standard input.
pub(super) fn lines(file: &Path) -> Result<Vec<String>, CommandError> {
    let text = text(file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// The secrets in a file, one a line; there has to be one.
pub(super) fn secrets(file: &Path) -> Result<Vec<String>, CommandError> {
    let found = lines(file)?;
    if found.is_empty() {
        let says = format!("{} holds no secret; write one on each line", named(file));
        return Err(CommandError::Usage(says));
    }
    Ok(found)
}

/// The only secret in a file.
pub(super) fn secret(file: &Path) -> Result<String, CommandError> {
    match <[String; 1]>::try_from(secrets(file)?) {
        Ok([secret]) => Ok(secret),
        Err(_) => Err(CommandError::Usage(format!("{} holds more than one secret", named(file)))),
    }
}

fn text(file: &Path) -> Result<Zeroizing<String>, CommandError> {
    let text = if file.as_os_str() == INPUT {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|why| CommandError::Failed(format!("{}: {why}", named(file))))?;
    Ok(Zeroizing::new(text))
}

fn named(file: &Path) -> String {
    match file.as_os_str() == INPUT {
        true => "the standard input".to_owned(),
        false => file.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_on_each_line_and_what_is_wrong_with_it_repeats_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        std::fs::write(&file, "\n whsec_one \r\n\nwhsec_two").unwrap();
        assert_eq!(secrets(&file).unwrap(), ["whsec_one", "whsec_two"]);
        assert!(!format!("{:?}", secret(&file)).contains("whsec_"));
        std::fs::write(&file, "whsec_one\n").unwrap();
        assert_eq!(secret(&file).unwrap(), "whsec_one");
        std::fs::write(&file, " \n").unwrap();
        assert!(secrets(&file).is_err() && lines(&file).unwrap().is_empty());
        assert!(secrets(&folder.path().join("nowhere")).is_err());
    }
}
