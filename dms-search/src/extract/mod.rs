//! Text out of content.

mod html;
mod markdown;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};

use dms_core::model::text::{TextFormat, plain_text, truncate_at_char};
use dms_core::{Error, Result};

use self::text::TextBuilder;

/// Takes the text out of `content`: at most `limit_bytes` of it, cut between characters.
///
/// The charset is taken to be UTF-8; what isn't is replaced by U+FFFD. Of HTML the title and the
/// text between tags remain, entities decoded, blocks on lines of their own, white space
/// collapsed; scripts and styles don't. Of Markdown text and code remain, and the text of HTML
/// inside. Markup is never an error: whatever isn't well-formed is read as browsers read it.
///
/// Time is linear in the content that is looked at, memory in `limit_bytes`. Reading stops when the
/// limit is reached, and of Markdown after twice as many bytes of content.
///
/// # Errors
/// `Internal` if the parser fails on this content; the content then has no text.
///
/// # Examples
/// ```
/// use dms_core::model::text::TextFormat;
///
/// let text = dms_search::extract(TextFormat::Html, b"<h1>Q&amp;A</h1><p>Why <b>not</b>?", 1024)?;
/// assert_eq!(text, "Q&A\nWhy not?");
/// # Ok::<(), dms_core::Error>(())
/// ```
pub fn extract(format: TextFormat, content: &[u8], limit_bytes: usize) -> Result<String> {
    // The parsers are tested against arbitrary bytes; should one fail nevertheless, the document
    // is still worth more than its text.
    catch_unwind(AssertUnwindSafe(|| match format {
        TextFormat::Plain => plain_text(content, limit_bytes),
        TextFormat::Html => {
            let mut text = TextBuilder::new(limit_bytes);
            html::append(content, &mut text);
            text.finish()
        }
        TextFormat::Markdown => {
            let mut text = TextBuilder::new(limit_bytes);
            markdown::append(content, &mut text);
            text.finish()
        }
    }))
    .map(|mut text| {
        truncate_at_char(&mut text, limit_bytes);
        text
    })
    .map_err(|_| Error::internal("text extraction panicked"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [TextFormat; 3] = [TextFormat::Plain, TextFormat::Html, TextFormat::Markdown];

    fn html(content: &str) -> String {
        extract(TextFormat::Html, content.as_bytes(), 10_000).unwrap()
    }

    fn markdown(content: &str) -> String {
        extract(TextFormat::Markdown, content.as_bytes(), 10_000).unwrap()
    }

    #[test]
    fn html_gives_title_and_text_without_markup_scripts_and_styles() {
        let page = "<!doctype html><html><head><title>Q&amp;A &lt;1&gt;</title>\
            <style>p { color: red }</style><script>if (a</b/.test(c)) alert('no')</script></head>\
            <body class='x>y'><!-- no --><p>One<br>two <b>th</b>ree\n  four<div>five</div>\
            <script src=x/>no</script><textarea>six</textarea></body></html>";
        assert_eq!(html(page), "Q&A <1>\nOne\ntwo three four\nfive\nsix");
    }

    #[test]
    fn blocks_and_cells_are_apart_and_inline_elements_are_not() {
        assert_eq!(html("<tr><td>a</td><td>b</td></tr>c<i>d</i><custom>e</custom>"), "a\nb\ncd\ne");
        assert_eq!(html("<LI>a<LI>b"), "a\nb");
    }

    #[test]
    fn html_entities_are_decoded() {
        assert_eq!(html("caf&eacute; &#x1F980; &#38; &xyzzy; &lt;b&gt;"), "café 🦀 & &xyzzy; <b>");
    }

    #[test]
    fn broken_html_is_read_as_far_as_it_goes() {
        assert_eq!(html("a < b <p <q>c</"), "a < b\nc</");
        assert_eq!(html("<a href=\"x>unclosed"), "");
        assert_eq!(html("x<script>never closed"), "x");
        assert_eq!(html("<title/>self closed"), "self closed");
        assert_eq!(html("<script/>self closed"), "self closed");
    }

    #[test]
    fn markdown_gives_text_and_code_without_markup() {
        let page = "# Title *em*\n\nSome [link](http://x.y \"t\") and `code <b>`\nnext &amp; line\n\n\
            ```rust\nlet a = 1;\n```\n\n| a | b |\n|---|---|\n| c | ~~d~~ |\n\n- [x] done\n\n![alt](i.png)";
        assert_eq!(
            markdown(page),
            "Title em\nSome link and code <b>\nnext & line\nlet a = 1;\na\nb\nc\nd\ndone\nalt"
        );
    }

    #[test]
    fn html_inside_markdown_is_stripped_too() {
        let page = "before\n\n<div onclick=\"x\">\n<b>bold</b>\n<script>\nno()\n</script>\n</div>\n\n\
            in<b>li</b>ne <!-- no --> after";
        assert_eq!(markdown(page), "before\nbold\ninline after");
    }

    #[test]
    fn the_limit_holds_and_cuts_between_characters() {
        for format in FORMATS {
            let text = extract(format, "é".repeat(500).as_bytes(), 101).unwrap();
            assert_eq!(text, "é".repeat(50), "{format:?}");
            assert_eq!(extract(format, b"text", 0).unwrap(), "", "{format:?}");
        }
    }

    #[test]
    fn hostile_nesting_and_repetition_end_soon() {
        let mut hostile: Vec<String> = [
            "<div>",
            "<a b ",
            "<a b='",
            "<!--",
            "</",
            "&",
            "<script>",
            "<svg><![CDATA[",
            "[",
            "![",
            "> ",
            "*a_",
            "`",
            "- ",
            "    ",
            "[a](",
            "<a@b.c",
            "~~a~",
            "|a",
            "&#",
            "\\",
        ]
        .iter()
        .map(|part| part.repeat((512 << 10) / part.len()))
        .collect();
        // One tag with very many different attributes.
        hostile.push((0..60_000).fold("<p ".to_owned(), |mut tag, n| {
            let _ = std::fmt::Write::write_fmt(&mut tag, format_args!("a{n}=1 "));
            tag
        }));
        hostile.push((1..700).map(|depth| "> ".repeat(depth) + "x\n").collect());
        for content in hostile {
            for format in FORMATS {
                extract(format, content.as_bytes(), 256 << 10).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_bounded_text(content in any::<Vec<u8>>(), limit in 0_usize..200) {
            for format in FORMATS {
                prop_assert!(extract(format, &content, limit).unwrap().len() <= limit);
            }
        }

        #[test]
        fn any_markup_gives_bounded_text(
            content in "(<|>|/|!|-|&|;|#|script|title|p|b|a=|'|\"|`|\\*|_|\\[|\\]|\\(|\\)|\\||\n| |é|\t){0,200}",
            limit in 0_usize..400,
        ) {
            for format in FORMATS {
                prop_assert!(extract(format, content.as_bytes(), limit).unwrap().len() <= limit);
            }
        }

        #[test]
        fn plain_words_survive_every_format(words in "[a-z]{1,8}( [a-z]{1,8}){0,10}") {
            for format in FORMATS {
                prop_assert_eq!(&extract(format, words.as_bytes(), 1_000).unwrap(), &words);
            }
        }
    }
}
