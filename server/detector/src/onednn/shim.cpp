// Calls operators of libtorch for which tch has no function, by their names: libtorch registers them for
// torch.compile, and its dispatcher finds them for every caller.
//
// Also lends its threads, for which there is only a template.
//
// Little, so that everything else can be Rust. mod.rs names the operators and their arguments.

#include <ATen/Parallel.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <ATen/core/stack.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

namespace {

// Laid out as the enum of the same name in mod.rs.
enum class Kind : std::int32_t { None, Tensor, Float, Whole, Wholes, Text, Scalars };

template <typename T> struct Slice {
    const T *first;
    std::size_t length;
};

struct Argument {
    Kind kind;
    union {
        const at::Tensor *tensor;
        double number;
        std::int64_t whole;
        Slice<std::int64_t> wholes;
        Slice<char> text;
        Slice<double> scalars;
    };
};

c10::IValue value(const Argument &argument) {
    switch (argument.kind) {
    case Kind::None:
        return {};
    case Kind::Tensor:
        return *argument.tensor;
    case Kind::Float:
        return argument.number;
    case Kind::Whole:
        return argument.whole;
    case Kind::Wholes:
        return std::vector<std::int64_t>(argument.wholes.first, argument.wholes.first + argument.wholes.length);
    case Kind::Text:
        return std::string(argument.text.first, argument.text.length);
    case Kind::Scalars: {
        c10::impl::GenericList scalars(c10::OptionalType::create(c10::NumberType::get()));
        for (std::size_t i = 0; i < argument.scalars.length; ++i) {
            scalars.push_back(argument.scalars.first[i]);
        }
        return scalars;
    }
    }
    throw std::invalid_argument("an argument of unknown kind");
}

}  // namespace

// Calls `work` with each number below `count`, and returns when all calls have returned. If libtorch uses as many threads
// for an operation, each number has a thread of its own, and the same one in each call. A compiler without OpenMP
// (macOS) leaves all of them to the caller's thread. `work` throws nothing.
extern "C" void ssd_run_on_all(std::size_t count, void (*work)(const void *, std::size_t),
                               const void *context) noexcept {
    at::parallel_for(0, static_cast<std::int64_t>(count), 1, [=](std::int64_t begin, std::int64_t end) {
        for (; begin < end; ++begin) {
            work(context, static_cast<std::size_t>(begin));
        }
    });
}

// Calls the overload `overload` of the operator `name` with `count` arguments. Returns its tensor, which the
// caller deletes (as every tensor of torch-sys); or null, with at most `room` bytes of the error in `error`.
extern "C" at::Tensor *ssd_call(const char *name, const char *overload, const Argument *arguments,
                                std::size_t count, char *error, std::size_t room) noexcept {
    try {
        auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
        torch::jit::Stack stack;
        stack.reserve(count);
        for (std::size_t i = 0; i < count; ++i) {
            stack.push_back(value(arguments[i]));
        }
        handle.callBoxed(stack);
        return new at::Tensor(stack.at(0).toTensor());
    } catch (const std::exception &thrown) {
        std::strncpy(error, thrown.what(), room - 1);
    } catch (...) {
        std::strncpy(error, "something other than an exception was thrown", room - 1);
    }
    error[room - 1] = '\0';
    return nullptr;
}
