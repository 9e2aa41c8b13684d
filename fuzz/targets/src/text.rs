//! Text out of content, images out of text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dms_core::model::text::TextFormat;
use dms_core::validate;

/// A format, a bound and content: the text stays within the bound, is the same each time, has single
/// spaces, and a tighter bound only cuts it.
pub fn extract(input: &[u8]) {
    let Some((format, rest)) = super::choice(input) else { return };
    let Some((limit, content)) = super::choice(rest) else { return };
    let limit = usize::from(limit);
    let format = match format % 3 {
        0 => TextFormat::Plain,
        1 => TextFormat::Html,
        _ => TextFormat::Markdown,
    };
    let text = |limit| dms_search::extract(format, content, limit).expect("no parser fails");
    let cut = text(limit);
    assert!(cut.len() <= limit, "{} bytes instead of {limit}", cut.len());
    assert_eq!(cut, text(limit));
    let whole = text(1 << 20);
    if format != TextFormat::Plain {
        assert!(["  ", "\n\n", " \n", "\n "].iter().all(|gap| !whole.contains(gap)), "{whole:?}");
        assert_eq!(whole.trim_ascii(), whole);
    }
    // Of Markdown less content is read if less text is wanted, and what it means may depend on that.
    if format != TextFormat::Markdown {
        assert!(whole.starts_with(&cut), "{cut:?} doesn't begin {whole:?}");
    }
}

/// The image of a signature: written in base64 again, it is the same.
pub fn signature_image(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(image) = validate::signature_data(text) else { return };
    assert!(!image.is_empty() && image.len() <= text.len());
    let encoded = STANDARD.encode(&image);
    for again in [
        encoded.clone(),
        encoded.trim_end_matches('=').to_owned(),
        format!(" data:image/png;base64,{encoded}\n"),
        format!("DATA:;BASE64,{encoded}"),
    ] {
        assert_eq!(validate::signature_data(&again).as_ref(), Ok(&image), "{again}");
    }
}
