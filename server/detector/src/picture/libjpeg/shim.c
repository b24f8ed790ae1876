/*
 * Decodes a JPEG in memory by libjpeg (libjpeg-turbo's sources) in one call. libjpeg reports an error by a callback
 * that must not return, so the call jumps back here with longjmp: over C frames only, never over Rust's.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

/* In step with `Outcome` and `Report` in mod.rs. */
enum outcome {
    WHOLE,
    WITHOUT_END,
    CUT_SHORT,
    DAMAGED,
    TOO_MANY_SCANS,
    WITHOUT_COMPONENT,
    WITHOUT_TABLE,
    UNSUPPORTED_SAMPLING,
    DAMAGED_HEADER,
};

struct report {
    uint32_t outcome;
    uint32_t row;
    uint32_t scan;
};

enum { MARKER_END = 0xd9 };

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    struct report *report;
    int max_scans;
    /* Whether libjpeg wanted more bytes than the file has. */
    int exhausted;
    /* Whether all rows are decoded. */
    int complete;
    /* Whether each component was in a scan. */
    unsigned char scanned[MAX_COMPONENTS];
};

/* The `jpeg` that callbacks get is the first member of its decoder. */
static struct decoder *decoder_of(j_common_ptr jpeg) { return (struct decoder *)jpeg; }

static void fail(struct decoder *decoder, enum outcome outcome) {
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    struct report *report = decoder->report;
    if (decoder->complete) {
        outcome = WITHOUT_END;
    } else if (decoder->exhausted && outcome != TOO_MANY_SCANS) {
        outcome = CUT_SHORT;
    }
    report->outcome = outcome;
    report->scan = (uint32_t)jpeg->input_scan_number;
    report->row = jpeg->input_iMCU_row * (uint32_t)jpeg->max_v_samp_factor * DCTSIZE;
    longjmp(decoder->failed, 1);
}

static void error_exit(j_common_ptr jpeg) {
    switch (jpeg->err->msg_code) {
    case JERR_NO_HUFF_TABLE:
    case JERR_NO_QUANT_TABLE:
        fail(decoder_of(jpeg), WITHOUT_TABLE);
        break;
    case JERR_BAD_SAMPLING:
    case JERR_BAD_MCU_SIZE:
    case JERR_CCIR601_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
        fail(decoder_of(jpeg), UNSUPPORTED_SAMPLING);
        break;
    default:
        fail(decoder_of(jpeg), DAMAGED_HEADER);
    }
}

/* libjpeg goes on after a warning. Here a warning that means wrong pixels is an error; others, for example about
 * bytes between two segments, are not. */
static void emit_message(j_common_ptr jpeg, int level) {
    struct decoder *decoder = decoder_of(jpeg);
    if (level >= 0) {
        return;
    }
    switch (jpeg->err->msg_code) {
    case JWRN_HIT_MARKER:
        fail(decoder, decoder->jpeg.unread_marker == MARKER_END ? CUT_SHORT : DAMAGED);
        break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_BOGUS_PROGRESSION:
        fail(decoder, DAMAGED);
        break;
    default:
        break;
    }
}

static void output_message(j_common_ptr jpeg) { (void)jpeg; }

static void init_source(j_decompress_ptr jpeg) { (void)jpeg; }

static void term_source(j_decompress_ptr jpeg) { (void)jpeg; }

/* Past its end, a file goes on with end markers. */
static boolean fill_input_buffer(j_decompress_ptr jpeg) {
    static const JOCTET END[2] = {0xff, MARKER_END};
    decoder_of((j_common_ptr)jpeg)->exhausted = 1;
    jpeg->src->next_input_byte = END;
    jpeg->src->bytes_in_buffer = sizeof END;
    return TRUE;
}

static void skip_input_data(j_decompress_ptr jpeg, long count) {
    struct jpeg_source_mgr *source = jpeg->src;
    if (count <= 0) {
        return;
    }
    if ((size_t)count > source->bytes_in_buffer) {
        fill_input_buffer(jpeg);
    } else {
        source->next_input_byte += count;
        source->bytes_in_buffer -= (size_t)count;
    }
}

/* Called before each row of blocks of a file with several scans. */
static void progress_monitor(j_common_ptr common) {
    struct decoder *decoder = decoder_of(common);
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    if (jpeg->input_scan_number > decoder->max_scans) {
        fail(decoder, TOO_MANY_SCANS);
    }
    for (int index = 0; index < jpeg->comps_in_scan; index++) {
        decoder->scanned[jpeg->cur_comp_info[index]->component_index] = 1;
    }
}

/* After all scans of a file: checks that none is missing. */
static void check_scans(struct decoder *decoder) {
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    for (int index = 0; index < jpeg->num_components; index++) {
        if (!decoder->scanned[index]) {
            fail(decoder, WITHOUT_COMPONENT);
        }
        if (!jpeg->progressive_mode) {
            continue;
        }
        if (jpeg->coef_bits[index][0] < 0) {
            fail(decoder, WITHOUT_COMPONENT);
        }
        /* Without the end marker, there may have been more scans. */
        for (int bit = 0; decoder->exhausted && bit < DCTSIZE2; bit++) {
            if (jpeg->coef_bits[index][bit] != 0) {
                fail(decoder, CUT_SHORT);
            }
        }
    }
}

/* One row of inverted CMYK, as Adobe's programs write it, to RGB. */
static void to_rgb(const JSAMPLE *cmyk, uint8_t *rgb, size_t width) {
    for (size_t x = 0; x < width; x++, cmyk += 4, rgb += 3) {
        for (int channel = 0; channel < 3; channel++) {
            unsigned ink = (255u - cmyk[channel]) * cmyk[3] + 128;
            rgb[channel] = (uint8_t)(cmyk[3] - ((ink + (ink >> 8)) >> 8));
        }
    }
}

static void run(struct decoder *decoder, const uint8_t *file, size_t length, uint32_t width, uint32_t height,
                uint8_t *pixels) {
    j_decompress_ptr jpeg = &decoder->jpeg;
    decoder->source.next_input_byte = file;
    decoder->source.bytes_in_buffer = length;
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_width != width || jpeg->image_height != height) {
        fail(decoder, DAMAGED_HEADER);
    }
    int cmyk = jpeg->num_components == 4;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(jpeg);
    if (jpeg_has_multiple_scans(jpeg)) {
        check_scans(decoder);
    }
    size_t stride = 3 * (size_t)width;
    JSAMPARRAY inks = NULL;
    if (cmyk) {
        inks = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, 4 * width, 1);
    }
    while (jpeg->output_scanline < height) {
        uint8_t *row = pixels + jpeg->output_scanline * stride;
        if (cmyk) {
            jpeg_read_scanlines(jpeg, inks, 1);
            to_rgb(inks[0], row, width);
        } else {
            jpeg_read_scanlines(jpeg, &row, 1);
        }
    }
    decoder->complete = 1;
    jpeg_finish_decompress(jpeg);
    decoder->report->outcome = decoder->exhausted ? WITHOUT_END : WHOLE;
}

/* Separate from the caller, so that no local variable changes between setjmp and longjmp. */
static void attempt(struct decoder *decoder, const uint8_t *file, size_t length, uint32_t width, uint32_t height,
                    size_t memory, uint8_t *pixels) {
    if (setjmp(decoder->failed) == 0) {
        jpeg_create_decompress(&decoder->jpeg);
        decoder->jpeg.mem->max_memory_to_use = (long)memory;
        decoder->jpeg.src = &decoder->source;
        decoder->jpeg.progress = &decoder->progress;
        run(decoder, file, length, width, height, pixels);
    }
    jpeg_destroy_decompress(&decoder->jpeg);
}

/*
 * Decodes a file of `length` bytes to `height` rows of `width` RGB pixels. `memory` bounds what libjpeg keeps for files
 * with several scans. Writes 3 * width * height bytes to `pixels`, if the report says WHOLE or WITHOUT_END.
 */
void ssd_jpeg_decode(const uint8_t *file, size_t length, uint32_t width, uint32_t height, size_t memory,
                     int max_scans, uint8_t *pixels, struct report *report) {
    struct decoder decoder = {.report = report, .max_scans = max_scans};
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = error_exit;
    decoder.errors.emit_message = emit_message;
    decoder.errors.output_message = output_message;
    decoder.source.init_source = init_source;
    decoder.source.fill_input_buffer = fill_input_buffer;
    decoder.source.skip_input_data = skip_input_data;
    decoder.source.resync_to_restart = jpeg_resync_to_restart;
    decoder.source.term_source = term_source;
    decoder.progress.progress_monitor = progress_monitor;
    attempt(&decoder, file, length, width, height, memory, pixels);
}
